"""Draw text of any language with matplotlib's one font."""

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def missing_glyphs() -> Iterator[None]:
    """Suppress matplotlib's warning for each character that its font lacks, as in Chinese names; it draws a box instead."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font", UserWarning)
        yield

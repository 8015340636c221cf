"""Drawing text of any language with matplotlib's one font."""

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def missing_glyphs() -> Iterator[None]:
    """Without matplotlib's warning of each character that its font lacks, as of Chinese names: a box stands for it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font", UserWarning)
        yield

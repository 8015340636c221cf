"""Names of classes and samples as the page shows them."""

from collections import Counter
from collections.abc import Sequence

from prepkd.data.images.encoded import EncodedImages
from prepkd.data.prepared.file import Split
from prepkd.display.text import printable

LONGEST = 80  # characters; a data set's class names come from folders and files of others


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names that are printable, at most 80 characters long, and all different: equal ones get their number.

    >>> distinct_names(["cat", "dog", "cat"])
    ('cat (0)', 'dog', 'cat (2)')
    """
    shown = [shortened(name) for name in names]
    counts = Counter(shown)
    return tuple(f"{name} ({k})" if counts[name] > 1 else name for k, name in enumerate(shown))


def shortened(name: str) -> str:
    """A printable name, its end cut off if it is long."""
    name = printable(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def sample_name(split: Split, sample: int) -> str:
    """A sample's number, and its file if the images are kept as files."""
    file = f" ({shortened(split.images.name(sample))})" if isinstance(split.images, EncodedImages) else ""
    return f"sample {sample}{file}"

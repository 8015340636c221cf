"""Names of classes and samples as the page shows them."""

from collections import Counter
from collections.abc import Sequence

from prepkd.data.images.encoded import EncodedImages
from prepkd.data.prepared.file import Split
from prepkd.display.text import printable

MAX_LENGTH = 80  # characters; class names are untrusted, since they come from a data set's folders and files


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Make names printable, at most 80 characters long, and distinct: equal names get their index.

    >>> distinct_names(["cat", "dog", "cat"])
    ('cat (0)', 'dog', 'cat (2)')
    """
    shown = [shortened(name) for name in names]
    counts = Counter(shown)
    return tuple(f"{name} ({k})" if counts[name] > 1 else name for k, name in enumerate(shown))


def shortened(name: str) -> str:
    """Make a name printable, and cut off its end if it is long."""
    name = printable(name)
    return name if len(name) <= MAX_LENGTH else f"{name[: MAX_LENGTH - 3]}..."


def sample_name(split: Split, sample: int) -> str:
    """A sample's number, and its file name if the images are kept encoded."""
    file = f" ({shortened(split.images.name(sample))})" if isinstance(split.images, EncodedImages) else ""
    return f"sample {sample}{file}"

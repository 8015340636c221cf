"""Decoding image files: the one place that says which files are images, and what their pixels are."""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from prepkd.errors import InputError
from prepkd.runtime.processors import processors

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
R = TypeVar("R")
# By content, and how that starts.
STARTS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG", "WEBP": b"RIFF", "BMP": b"BM"}
FORMATS = tuple(STARTS)
_MEND = "replace it, or take it out"


def decoded(content: bytes | memoryview, where: object) -> "Image":
    """An image file's content as Pillow's RGB image: what torchvision's ImageFolder shows of it.

    Greyscale, palette and CMYK are converted, alpha is dropped, an EXIF orientation is not applied. Raises InputError naming
    `where` if the content is no whole JPEG, PNG, WebP or BMP, has moving pictures, or more than 8 bits a channel.
    """
    if not content:
        raise InputError(f"{where}: the file is empty; {_MEND}")
    with _opened(io.BytesIO(content), where) as image:
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")  # to its own mode it would be copied


def image_format(content: bytes) -> str:
    """Which of `FORMATS` an image's content is, which `decoded` took."""
    return next(name for name, start in STARTS.items() if content.startswith(start))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file, its pixels undecoded; raises InputError naming it if it is none."""
    with path.open("rb") as file, _opened(file, path) as image:
        return image.height, image.width


@contextlib.contextmanager
def _opened(file: IO[bytes], where: object) -> "Iterator[Image]":
    """An image that is accepted; whatever Pillow stumbles over, also within the block, becomes an InputError."""
    # Pillow, not torchvision: its decoders are deprecated, and 0.29 crashes the process on a damaged PNG.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=FORMATS) as image:
            # Only PNG has it here. Pillow shows no mode of it but for grey; what it reads from, it says: RGB;16B.
            if image.format == "PNG" and any(";16" in str(tile.args) for tile in image.tile):
                raise InputError(f"{where}: 16 bits a channel; expected 8; convert it, or take it out")
            if image.format != "MPO" and getattr(image, "is_animated", False):
                raise InputError(f"{where}: a moving picture; expected one image; {_MEND}")
            yield image
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            f"{where}: not a JPEG, PNG, WebP or BMP image (the content counts, not the name); {_MEND}"
        ) from None
    # What Pillow's readers raise on damaged files; a bomb is an image of more than 179 million pixels.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where}: damaged or cut off: {reason}; {_MEND}") from None


def threaded(
    work: Callable[[T], R], items: Iterable[T], batch: int = 256, initializer: Callable[[], None] | None = None
) -> Iterator[R]:
    """`map` on as many threads as processors (Pillow decodes outside the interpreter's lock), in order, `batch` ahead.

    Each thread calls `initializer` first.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(processors(), initializer=initializer) as pool:
        while ahead := list(islice(remaining, batch)):
            yield from pool.map(work, ahead)

"""Decoding image files: which files are images, and their pixels."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from prepkd.errors import InputError

# Each format's first bytes.
STARTS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG", "WEBP": b"RIFF", "BMP": b"BM"}
FORMATS = tuple(STARTS)
_REPLACE = "replace it, or take it out"


def decoded(content: bytes | memoryview, where: object) -> Image.Image:
    """Decode an image file's content to Pillow's RGB image, equal to torchvision's ImageFolder.

    Greyscale, palette and CMYK are converted, alpha is dropped, an EXIF orientation is not applied. Raises InputError naming
    `where` if the content is no complete JPEG, PNG, WebP or BMP, is animated, or has more than 8 bits per channel.
    """
    if not content:
        raise InputError(f"{where}: the file is empty; {_REPLACE}")
    with _opened(io.BytesIO(content), where) as image:
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")  # converting RGB to RGB would copy it


def image_format(content: bytes) -> str:
    """The format, one of `FORMATS`, of content that `decoded` accepted."""
    return next(name for name, start in STARTS.items() if content.startswith(start))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file, without decoding its pixels; raises InputError naming a file that is no image."""
    with path.open("rb") as file, _opened(file, path) as image:
        return image.height, image.width


@contextlib.contextmanager
def _opened(file: IO[bytes], where: object) -> Iterator[Image.Image]:
    """Open an accepted image; Pillow's errors, also those within the block, become an InputError."""
    # Pillow, not torchvision: its decoders are deprecated, and 0.29 crashes the process on a damaged PNG.
    try:
        with Image.open(file, formats=FORMATS) as image:
            # Of these formats only PNG has 16 bits. Pillow's mode shows that for grey images only, but its tiles do: RGB;16B.
            if image.format == "PNG" and any(";16" in str(tile.args) for tile in image.tile):
                raise InputError(f"{where}: 16 bits per channel; expected 8; convert it, or take it out")
            if image.format != "MPO" and getattr(image, "is_animated", False):
                raise InputError(f"{where}: an animated image; expected a single one; {_REPLACE}")
            yield image
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            f"{where}: not a JPEG, PNG, WebP or BMP image (the content counts, not the name); {_REPLACE}"
        ) from None
    # The errors of Pillow's readers on damaged files; a decompression bomb has more than 179 million pixels.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where}: damaged or cut off: {reason}; {_REPLACE}") from None

"""Decoding image files: accepted formats, orientation and pixels."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from prepkd.errors import InputError, one_line

# Each format's first bytes.
STARTS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG", "WEBP": b"RIFF", "BMP": b"BM"}
FORMATS = tuple(STARTS)
# Pillow's limit against decompression bombs.
MAX_PIXELS = 178_956_970
_REPLACE = "replace it, or take it out"
# By EXIF orientation, 1 being upright: the transposition that makes stored pixels upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DAMAGED = (
    ArithmeticError,  # sizes that overflow
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,  # a header that declares more pixels than fit
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def decode_image(
    content: bytes | memoryview,
    where: object,
    *,
    check: Callable[[Image.Image], object] | None = None,
    any_depth: bool = False,
) -> Image.Image:
    """Decode an image file's content to Pillow's RGB image, equal to torchvision's ImageFolder.

    Greyscale, palette and CMYK are converted, alpha is dropped, an EXIF orientation is not applied. Raises InputError naming
    `where` if the content is not a complete JPEG, PNG, WebP or BMP, is animated, or has more than 8 bits per channel; with
    `any_depth` the upper 8 bits are used instead. `check` gets the image before its pixels are decoded, and may raise InputError.
    """
    if not content:
        raise InputError(f"{where}: the file is empty; {_REPLACE}")
    with _opened(io.BytesIO(content), where, any_depth=any_depth) as image:
        if check is not None:
            check(image)
        image.load()
        if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip every value at 255
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        return image if image.mode == "RGB" else image.convert("RGB")  # converting RGB to RGB would copy it


def apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image upright that was stored under an EXIF orientation, 1 to 8."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def image_format(content: bytes) -> str:
    """The format, one of `FORMATS`, of content that `decode_image` accepted."""
    return next(name for name, start in STARTS.items() if content.startswith(start))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an opened image, 1 to 8; 1 (upright) if EXIF is missing, damaged or stored after the pixels."""
    if "exif" not in image.info:  # Pillow would decode a PNG to find EXIF data after its pixels
        return 1
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:  # the pixels are intact, and viewers show them as stored
        return 1
    return int(found) if found in _TURNS else 1


def image_size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Height and width of an image file, stored or `upright`; pixels are not decoded. Raises InputError if it is not an image."""
    with path.open("rb") as file, _opened(file, path) as image:
        turned = upright and orientation_of(image) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)


@contextlib.contextmanager
def _opened(file: IO[bytes], where: object, *, any_depth: bool = False) -> Iterator[Image.Image]:
    """Open an image of an accepted format; Pillow's errors, also those within the block, become an InputError."""
    # Pillow, not torchvision: its decoders are deprecated, and 0.29 crashes the process on a damaged PNG.
    try:
        with Image.open(file, formats=FORMATS) as image:
            # Only PNG can have 16 bits. Pillow's mode shows this for grey images only, the tiles' arguments always: RGB;16B.
            if not any_depth and image.format == "PNG" and any(";16" in str(tile.args) for tile in image.tile):
                raise InputError(f"{where}: 16 bits per channel; expected 8; convert it, or take it out")
            if image.format != "MPO" and getattr(image, "is_animated", False):
                raise InputError(f"{where}: an animated image; expected a single one; {_REPLACE}")
            if image.width < 1 or image.height < 1:
                raise InputError(f"{where}: {image.width} x {image.height} pixels; expected at least 1 x 1; {_REPLACE}")
            yield image
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            f"{where}: not a JPEG, PNG, WebP or BMP image (the content counts, not the name); {_REPLACE}"
        ) from None
    except _DAMAGED as error:  # of Pillow's readers on damaged files
        raise InputError(f"{where}: damaged or cut off: {one_line(error)}; {_REPLACE}") from None

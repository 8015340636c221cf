"""Images named on a command line as files, folders or patterns: find, read, turn upright and frame them."""

import contextlib
import glob
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from prepkd.data.images.decode import MAX_PIXELS, apply_orientation, decode_image, orientation_of
from prepkd.data.images.files import FORMAT_OF, MAX_BYTES
from prepkd.errors import InputError
from prepkd.runtime.outputs import paths_in
from prepkd.views.centre_crop import framed
from prepkd.views.framing import Framing

MODES = {1: "L", 3: "RGB"}  # Pillow's, by a model's number of channels
# Images of more pixels are decoded one at a time, whatever the number of threads.
LARGE = 2**24
_alone = threading.Lock()


def named_images(arguments: Iterable[str]) -> Iterator[Path | InputError]:
    """Yield the image files of the arguments in order: a file of any name, the images in a folder, the matches of a pattern.

    An argument without image files yields an InputError.
    """
    for argument in arguments:
        found = [one for name in _matches(argument) for one in _images(name)]
        if found:
            yield from found
        elif _is_folder(argument):
            yield InputError(f"{argument}: no image in this folder; expected {', '.join(FORMAT_OF)}")
        else:
            yield InputError(f"{argument or repr(argument)}: no such file or folder, and no match as a pattern")


def read_image(path: Path, framing: Framing, channels: int) -> Tensor:
    """Read an image of any size as the model takes it: uint8 (channels, height, width) of the framing.

    Palette, CMYK and 16 bits per channel (the upper 8 are used) are converted, alpha is dropped, the EXIF orientation is
    applied; for one channel colours become grey (ITU-R 601). Raises InputError for a file that is not a complete image.
    """
    if not path.is_file():  # reading a pipe or a device might not end
        raise InputError(f"{path}: no such file, or no regular one")
    if (size := path.stat().st_size) > (most := MAX_BYTES + 8 * MAX_PIXELS):
        raise InputError(f"{path}: has {size:,} bytes; expected at most {most:,}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from None
    orientation = 1
    with contextlib.ExitStack() as held:

        def check(image: Image) -> None:
            nonlocal orientation
            orientation = orientation_of(image)
            if image.width * image.height > LARGE:
                held.enter_context(_alone)

        image = apply_orientation(decode_image(content, path, check=check, any_depth=True), orientation)
        pixels = np.array(image if image.mode == MODES[channels] else image.convert(MODES[channels]))
        return framed(torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1), framing).contiguous()


def _matches(argument: str) -> list[str]:
    """The argument if that path exists, else its matches as a pattern."""
    if os.path.lexists(argument):
        return [argument]
    found: dict[tuple[str, str], str] = {}
    # Through a link to a parent folder, `**` finds each file forty times.
    for name in sorted(glob.glob(argument, recursive=True), key=len):  # noqa: PTH207 - of any root
        folder, file = os.path.split(name)
        found.setdefault((os.path.realpath(folder), file), name)
    return sorted(found.values())


def _images(name: str) -> list[Path]:
    if not _is_folder(name):
        return [Path(name)]
    return [Path(name, one) for one in paths_in(Path(name)) if Path(one).suffix.lower() in FORMAT_OF]


def _is_folder(name: str) -> bool:
    return os.path.isdir(name)  # noqa: PTH112 - False, no error, for a name that is too long

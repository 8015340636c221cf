"""Image folders by split and class, including ImageNet's layout."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import Field

from prepkd.data.images.decode import MOST_PIXELS
from prepkd.data.images.files import common_shape, find_unreadable, with_one_format
from prepkd.data.sources.names import utf8
from prepkd.data.sources.raw import RawData
from prepkd.data.sources.source import Source
from prepkd.data.sources.tree import Walk
from prepkd.errors import InputError
from prepkd.settings.section import Section

# Images of one size become arrays up to this many bytes: they are then rendered without decoding, and any recipe fits.
ARRAY_BYTES = 4 << 30

MIXED = "convert it, or set prepare.mixed_formats: true, which reads all formats, whatever their names"


class FolderSettings(Section):
    """`mixed_formats` allows several image formats; `upright` turns photographs as their EXIF orientation says; an image of more
    than `max_pixels` is refused before it is decoded.
    """

    mixed_formats: bool = False
    upright: bool = True
    max_pixels: int = Field(default=MOST_PIXELS, ge=1, le=MOST_PIXELS)


@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """Images of any size in a folder per split and class."""

    name: str = "folder"
    place: str = "images"
    own: str = "a folder of images"
    settings: FolderSettings = field(default_factory=FolderSettings)

    def read(self, raw: Path) -> RawData:
        """Read train/<class>/ and test/<class>/, classes in the order of their names.

        val/ or valid/ becomes the val; without test/ it becomes the test. Images of one size become arrays, if these are no
        larger than `ARRAY_BYTES`; others stay encoded. Raises InputError if there is nothing to test on, or listing classes that
        differ, files that are no images, and those that, without `mixed_formats`, have another format than the others or than
        their endings say.
        """
        own = self.settings
        held_out = [name for name in ("test", "val", "valid") if (raw / name).is_dir()]
        if not (raw / "train").is_dir():
            raise InputError(
                f"{raw / 'train'}: no such folder; expected train/<class>/<image>, and test/ or val/ beside it"
            )
        if not held_out:
            raise InputError(
                f"{raw}: has train/, but neither test/ nor val/; expected images to test on that are not trained on; "
                "move some of each class to test/<class>/"
            )
        if {"val", "valid"} <= set(held_out):
            raise InputError(f"{raw}: has val/ and valid/; expected one of them; rename the other")
        walk = Walk(raw)
        classes = walk.class_folders("train")
        if len(classes) < 2:
            expected = "expected two or more, as train/<class>/<image>"
            walk.faults.add(f"{raw / 'train'}: {len(classes)} class folder{'' if classes else 's'}; {expected}")
            walk.faults.refuse(raw)
        found = [walk.split_files(name, classes) for name in ("train", *held_out)]
        files = [replace(each, upright=own.upright, max_pixels=own.max_pixels) for each, _ in found]
        if not own.mixed_formats:
            files = with_one_format(files, MIXED, walk.faults)
        if walk.faults.count:  # else they are found when they are decoded
            find_unreadable(files, walk.faults)
        notes = walk.notes()
        shape = common_shape(files)
        images = sum(map(len, files))
        encoded = shape is None or images * math.prod(shape) > ARRAY_BYTES
        files = [replace(each, shape=shape, encoded=encoded) for each in files]
        train, test, *val = zip(files, [labels for _, labels in found], strict=True)
        names = tuple(map(utf8, classes))
        return RawData(self.name, *train, *test, names, "a folder of images", val[0] if val else None, notes)

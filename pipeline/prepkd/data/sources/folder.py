"""Image folders by split and class, including ImageNet's layout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import Field

from prepkd.data.images.decode import MAX_PIXELS
from prepkd.data.images.files import common_shape, find_unreadable, with_one_format
from prepkd.data.sources.names import utf8
from prepkd.data.sources.raw import LabelledFiles, RawData
from prepkd.data.sources.source import Source
from prepkd.data.sources.split import SplitShares, split_indices
from prepkd.data.sources.tree import Walk
from prepkd.errors import InputError
from prepkd.settings.section import Section

# Images of one size become arrays up to this many bytes: they are rendered without decoding, and any recipe fits.
ARRAY_BYTES = 4 << 30

HELD_OUT = ("test", "val", "valid")
MIXED = "convert it, or set prepare.mixed_formats: true, which reads all formats, whatever their names"


class FolderSettings(Section):
    """`mixed_formats` allows several image formats; `upright` turns photographs as their EXIF orientation says; an image of more
    than `max_pixels` is refused before it is decoded; `split` divides a flat folder of class folders.
    """

    mixed_formats: bool = False
    upright: bool = True
    max_pixels: int = Field(default=MAX_PIXELS, ge=1, le=MAX_PIXELS)
    split: SplitShares | None = None


@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """Images of any size in a folder per split and class."""

    name: str = "folder"
    place: str = "images"
    own: str = "a folder of images"
    settings: FolderSettings = field(default_factory=FolderSettings)

    def read(self, raw: Path) -> RawData:
        """Read train/<class>/ and test/<class>/, or with `split` only <class>/; classes are sorted by name.

        val/ or valid/ becomes the val, or the test if test/ is missing. Images of one size become arrays of at most
        `ARRAY_BYTES`; others stay encoded. Raises InputError if there are no test images, and one listing classes that differ
        between splits, files that are not images, and, without `mixed_formats`, files whose format differs from the others' or
        from their ending.
        """
        own = self.settings
        held_out = [name for name in HELD_OUT if (raw / name).is_dir()]
        walk = Walk(raw)
        if own.split is not None:
            return self._finished(walk, *_split(walk, raw, held_out, own.split))
        if not (raw / "train").is_dir():
            raise InputError(
                f"{raw / 'train'}: no such folder; expected train/<class>/<image>, and test/ or val/ beside it; a folder of "
                "class folders alone needs prepare.split, e.g. {val: 0.1, test: 0.1}"
            )
        if not held_out:
            raise InputError(
                f"{raw}: has train/, but neither test/ nor val/; expected images to test on that are not trained on; "
                "move some of each class to test/<class>/, or name that folder in prepare.raw and set prepare.split"
            )
        if {"val", "valid"} <= set(held_out):
            raise InputError(f"{raw}: has val/ and valid/; expected one of them; rename the other")
        classes = _several(walk, "train")
        found = [walk.split_files(name, classes) for name in ("train", *held_out)]
        return self._finished(walk, classes, found, "a folder of images")

    def _finished(self, walk: Walk, classes: Sequence[str], found: Sequence[LabelledFiles], source: str) -> RawData:
        """The raw data of train, test and an optional val."""
        own = self.settings
        files = [replace(each, upright=own.upright, max_pixels=own.max_pixels) for each, _ in found]
        if not own.mixed_formats:
            files = with_one_format(files, MIXED, walk.faults)
        if walk.faults.count:  # otherwise unreadable files are found when they are decoded
            find_unreadable(files, walk.faults)
        notes = walk.notes()
        shape = common_shape(files)
        images = sum(map(len, files))
        encoded = shape is None or images * math.prod(shape) > ARRAY_BYTES
        files = [replace(each, shape=shape, encoded=encoded) for each in files]
        train, test, *val = zip(files, [labels for _, labels in found], strict=True)
        names = tuple(map(utf8, classes))
        return RawData(self.name, *train, *test, names, source, val[0] if val else None, notes)


def _several(walk: Walk, split: str) -> list[str]:
    """The class folders of a split, two or more."""
    classes = walk.class_folders(split)
    if len(classes) < 2:
        expected = f"expected two or more, as {'train/' if split else ''}<class>/<image>"
        walk.faults.add(f"{walk.root / split}: {len(classes)} class folder{'' if classes else 's'}; {expected}")
        walk.faults.refuse(walk.root)
    return classes


def _split(
    walk: Walk, raw: Path, held_out: Sequence[str], shares: SplitShares
) -> tuple[list[str], list[LabelledFiles], str]:
    """The classes of a flat folder, its files by split, and a description; a class may be named `train`, as in CIFAR-100."""
    if (raw / "train").is_dir() and held_out:
        raise InputError(
            f"{raw}: has train/ and {held_out[0]}/, and prepare.split is set; expected null, or class folders"
        )
    classes = _several(walk, "")
    files, labels = walk.split_files("", classes)
    walk.faults.refuse(raw)
    chosen = split_indices(labels, [utf8(name) for name in classes], shares)
    found = [(files[chosen[part]], labels[chosen[part]]) for part in ("train", "test", "val") if part in chosen]
    return classes, found, f"a folder of images, split by prepare.split with seed {shares.seed}"

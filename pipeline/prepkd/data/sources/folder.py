"""Folders of images by split and class: anybody's, ImageNet's layout included, and CINIC-10."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prepkd.data.images.files import common_shape, with_one_format
from prepkd.data.sources.raw import LabelledFiles, RawData
from prepkd.data.sources.tree import Seen, class_folders, images_below, labelled, located
from prepkd.errors import InputError

# Images of one size become arrays up to this many bytes: they are then shown without being decoded, and any recipe fits.
ARRAY_BYTES = 4 << 30

MIXED = "convert it, or set prepare.mixed_formats: true, which reads all formats, whatever their names"

CINIC10_SHAPE = (32, 32, 3)
CINIC10_SPLITS = ("train", "test", "valid")
CINIC10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CINIC10_SOURCE = "CINIC-10 (Darlow et al., 2018, arXiv 1810.03505), https://doi.org/10.7488/ds/2448: CC BY 4.0"


def read_folder(raw: Path, *, mixed_formats: bool = False) -> RawData:
    """Images in train/<class>/ and test/<class>/, classes in the order of their names; val/ or valid/ is the val, or without
    test/ the test.

    Images of one size become arrays, if these are no larger than `ARRAY_BYTES`; others stay encoded. Raises InputError if
    there is nothing to test on, if classes differ, or naming a file that is no image, or without `mixed_formats` is of another
    format than the others or than its ending says.
    """
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
    seen: Seen = {}
    classes = class_folders(raw / "train", seen)
    if len(classes) < 2:
        raise InputError(
            f"{raw / 'train'}: {len(classes)} class folders; expected two or more, as train/<class>/<image>"
        )
    found = [_split(raw, name, classes, seen) for name in ("train", *held_out)]
    files, labels = [files for files, _ in found], [labels for _, labels in found]
    if not mixed_formats:
        files = with_one_format(files, MIXED)
    shape = common_shape(files)
    images = sum(map(len, files))
    encoded = shape is None or images * math.prod(shape) > ARRAY_BYTES
    files = [replace(each, shape=shape, encoded=encoded) for each in files]
    train, test, *val = zip(files, labels, strict=True)
    return RawData("folder", *train, *test, tuple(classes), "a folder of images", *val)


def read_cinic10(raw: Path) -> RawData:
    """CINIC-10's 32 x 32 PNGs: train/, test/, and valid/, which is the val, as its authors split it.

    `raw` is the folder that holds these, or the one above if it is named `cinic10`. Raises InputError naming the folder that
    is missing, or the file that is no such image.
    """
    root = located(raw, "cinic10")
    for name in CINIC10_SPLITS:
        if not (root / name).is_dir():
            raise InputError(
                f"{root / name}: no such folder; expected CINIC-10's train, valid and test; "
                "run `prepkd prepare --download`, or unpack CINIC-10.tar.gz there"
            )
    seen: Seen = {}
    # Arrays, 0.8 GB: no epoch decodes them, and any recipe fits.
    train, test, valid = [_split(root, name, CINIC10_CLASSES, seen, CINIC10_SHAPE, "PNG") for name in CINIC10_SPLITS]
    return RawData("cinic10", *train, *test, CINIC10_CLASSES, CINIC10_SOURCE, valid)


def _split(
    root: Path,
    name: str,
    classes: Sequence[str],
    seen: Seen,
    shape: tuple[int, int, int] | None = None,
    kind: str | None = None,
) -> LabelledFiles:
    """One split's files, its class folders being these and no other."""
    found = class_folders(root / name, seen)
    if missing := sorted(set(classes) - set(found)):
        raise InputError(
            f"{root / name / missing[0]}: no such folder; expected every split to have the same classes; add it"
        )
    if other := sorted(set(found) - set(classes)):
        raise InputError(
            f"{root / name / other[0]}: not one of the {len(classes)} classes; expected every split to have the same; "
            "rename it, or take it out"
        )
    return labelled(root, [images_below(root, f"{name}/{label}", seen) for label in classes], shape, kind)

"""Tiny ImageNet in its official layout."""

from dataclasses import dataclass
from pathlib import Path

from prepkd.data.sources.archive import Archive
from prepkd.data.sources.archived_folder import ArchivedFolder
from prepkd.data.sources.raw import RawData
from prepkd.data.sources.tree import Found, Walk, label_files, subfolder_or_self
from prepkd.errors import InputError

SHAPE = (64, 64, 3)
CITATION = (
    "Tiny ImageNet (Stanford CS231n), http://cs231n.stanford.edu/tiny-imagenet-200.zip: images of ImageNet "
    "(Russakovsky et al., 2015), for research"
)
_PUT_BACK = "put the official file there"
ARCHIVE = Archive(
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    file="tiny-imagenet-200.zip",
    # Public loaders check the archive with this md5; several were compared.
    md5="90528d7ca1a48142e341f4ef8d21d0de",
)


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(ArchivedFolder):
    """Tiny ImageNet's 64 x 64 JPEGs."""

    name: str = "tiny-imagenet"
    shape: tuple[int, int, int] = SHAPE
    place: str = "tiny-imagenet-200"
    archive: Archive = ARCHIVE
    inside: str = "tiny-imagenet-200"
    holds: tuple[str, ...] = ("train", "val", "wnids.txt", "words.txt")

    def read(self, raw: Path) -> RawData:
        """Read train/, and val/ as the test, since the official test has no labels.

        `raw` is the official folder or its parent. Labels are in the order of the classes' WordNet ids; a class is named by its
        id and first word. Raises InputError naming a missing or malformed file, and the line in it.
        """
        root = subfolder_or_self(raw, self.place)
        for name in ("wnids.txt", "words.txt", "train", "val/images", "val/val_annotations.txt"):
            if not (root / name).exists():
                raise InputError(
                    f"{root / name}: no such file or folder; expected the official layout; "
                    "run `prepkd prepare --download`, or unpack tiny-imagenet-200.zip there"
                )
        wnids = sorted(_table(root / "wnids.txt", 1))
        words = _table(root / "words.txt", 2)
        for wnid in wnids:
            if wnid not in words:
                raise InputError(f"{root / 'words.txt'}: no line for {wnid}, which wnids.txt has; {_PUT_BACK}")
        walk = Walk(root)
        # Kept as arrays, 1.4 GB: no decoding during training, and any recipe fits.
        train = label_files(root, _train(walk, wnids), SHAPE, "JPEG")
        test = label_files(root, _val(walk, wnids), SHAPE, "JPEG")
        names = tuple(f"{wnid} {words[wnid][0].split(',')[0]}" for wnid in wnids)
        return RawData(self.name, *train, *test, names, CITATION, notes=walk.notes())


def _train(walk: Walk, wnids: list[str]) -> list[list[Found]]:
    """Each class's files, from train/<wnid>/images."""
    folders = walk.class_folders("train")
    for name in sorted(set(folders) ^ set(wnids)):
        where = f"{walk.root / 'train' / name}"
        walk.faults.add(
            f"{where}: not in wnids.txt; take it out"
            if name in folders
            else f"{where}: no such folder, but wnids.txt has it; {_PUT_BACK}"
        )
    classes = [walk.images_below(f"train/{wnid}/images") if wnid in folders else [] for wnid in wnids]
    for wnid, files in zip(wnids, classes, strict=True):
        for name, _ in files:
            if not Path(name).name.startswith(f"{wnid}_"):
                walk.faults.add(
                    f"{walk.root / name}: an image of another class; expected {wnid}_<number>.JPEG; take it out"
                )
    return classes


def _val(walk: Walk, wnids: list[str]) -> list[list[Found]]:
    """Each class's files in val/images, according to val_annotations.txt."""
    root, faults = walk.root, walk.faults
    annotations = root / "val/val_annotations.txt"
    labels = _table(annotations, 6)
    classes: dict[str, list[Found]] = {wnid: [] for wnid in wnids}
    before = faults.count
    images = dict(walk.images_below("val/images"))
    for name, (wnid, *_) in labels.items():
        if wnid not in classes:
            faults.add(f"{annotations}: {name} is of class {wnid}, which wnids.txt lacks; {_PUT_BACK}")
        if f"val/images/{name}" not in images:
            faults.add(f"{root / 'val/images' / name}: no such file, but val_annotations.txt has it; {_PUT_BACK}")
    for path, size in images.items():
        name = Path(path).name
        if name not in labels:
            faults.add(f"{root / path}: no line in val_annotations.txt; take the image out, or {_PUT_BACK}")
        elif labels[name][0] in classes:
            classes[labels[name][0]].append((path, size))
    for wnid, files in classes.items():
        if not files and faults.count == before:  # otherwise the missing files have been reported
            faults.add(f"{annotations}: no image of class {wnid}, which wnids.txt has; {_PUT_BACK}")
    return list(classes.values())


def _table(path: Path, columns: int) -> dict[str, list[str]]:
    """Read lines of `columns` fields, separated by tabs: the first field -> the others."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: can't be read: {reason}; {_PUT_BACK}") from None
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        first, *others = line.split("\t")
        if len(others) != columns - 1 or not first.strip():
            raise InputError(
                f"{path}: line {number} is {line[:60]!r}; expected {columns} fields separated by tabs; {_PUT_BACK}"
            )
        if first in rows:
            raise InputError(f"{path}: line {number}: {first} appears a second time; {_PUT_BACK}")
        rows[first] = others
    if not rows:
        raise InputError(f"{path}: the file is empty; {_PUT_BACK}")
    return rows

"""CINIC-10 as its authors split it."""

from dataclasses import dataclass
from pathlib import Path

from prepkd.data.sources.archive import Archive
from prepkd.data.sources.archived_folder import ArchivedFolder
from prepkd.data.sources.raw import RawData
from prepkd.data.sources.tree import Walk, subfolder_or_self
from prepkd.errors import InputError

SHAPE = (32, 32, 3)
SPLITS = ("train", "test", "valid")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CITATION = "CINIC-10 (Darlow et al., 2018, arXiv 1810.03505), https://doi.org/10.7488/ds/2448: CC BY 4.0"
ARCHIVE = Archive(
    # The archive of https://doi.org/10.7488/ds/2448; the address in CINIC-10's README is the repository's former one.
    url="https://datashare.ed.ac.uk/server/api/core/bitstreams/e8e186cc-2688-48f1-aa5a-3fda1a43f8b6/content",
    file="CINIC-10.tar.gz",
    # Public loaders check the archive with this md5; several were compared.
    md5="6ee4d0c996905fe93221de577967a372",
)


@dataclass(frozen=True, kw_only=True)
class Cinic10(ArchivedFolder):
    """CINIC-10's 32 x 32 PNGs."""

    name: str = "cinic10"
    shape: tuple[int, int, int] = SHAPE
    place: str = "cinic10"
    archive: Archive = ARCHIVE
    inside: str = "."
    holds: tuple[str, ...] = ("train", "valid", "test")

    def read(self, raw: Path) -> RawData:
        """Read train/, test/, and valid/ as the val.

        `raw` is the folder that holds these, or contains it as `cinic10`. Raises InputError naming a missing folder, or listing
        the files that are not 32 x 32 PNGs.
        """
        root = subfolder_or_self(raw, self.place)
        for name in SPLITS:
            if not (root / name).is_dir():
                raise InputError(
                    f"{root / name}: no such folder; expected CINIC-10's train, valid and test; "
                    "run `prepkd prepare --download`, or unpack CINIC-10.tar.gz there"
                )
        walk = Walk(root)
        # Kept as arrays, 0.8 GB: no decoding during training, and any recipe fits.
        train, test, valid = [walk.split_files(name, CLASSES, SHAPE, "PNG") for name in SPLITS]
        return RawData(self.name, *train, *test, CLASSES, CITATION, valid, walk.notes())

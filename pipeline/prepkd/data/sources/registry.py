"""Which data sets there are, and how their raw files come here."""

import http.client
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prepkd.data.sources.cifar import CIFAR10, CIFAR100, CifarLayout, is_complete, read_cifar
from prepkd.data.sources.digits import read_digits
from prepkd.data.sources.folder import read_cinic10, read_folder
from prepkd.data.sources.h5 import read_h5
from prepkd.data.sources.raw import RawData
from prepkd.data.sources.tiny_imagenet import read_tiny_imagenet
from prepkd.data.sources.tree import located
from prepkd.errors import InputError

# Each reads its raw files under the folder that it is given; digits come with scikit-learn and need none.
SOURCES: dict[str, Callable[[Path], RawData]] = {
    "digits": lambda raw: read_digits(),
    "cifar10": lambda raw: read_cifar(raw, CIFAR10),
    "cifar100": lambda raw: read_cifar(raw, CIFAR100),
    "cinic10": read_cinic10,
    "tiny-imagenet": read_tiny_imagenet,
    "folder": read_folder,
    "h5": read_h5,
}

DOWNLOADS: dict[str, CifarLayout] = {"cifar10": CIFAR10, "cifar100": CIFAR100}


@dataclass(frozen=True)
class Archive:
    """An official archive: where it is, its file name and md5, which folder in it holds what is read, and its name here."""

    url: str
    file: str
    md5: str
    inside: str
    holds: tuple[str, ...]
    folder: str


# The md5s are those with which many public loaders check these two archives; both were compared among several.
ARCHIVES = {
    "cinic10": Archive(
        # The archive of https://doi.org/10.7488/ds/2448; the address in CINIC-10's README is the repository's former one.
        url="https://datashare.ed.ac.uk/server/api/core/bitstreams/e8e186cc-2688-48f1-aa5a-3fda1a43f8b6/content",
        file="CINIC-10.tar.gz",
        md5="6ee4d0c996905fe93221de577967a372",
        inside=".",
        holds=("train", "valid", "test"),
        folder="cinic10",
    ),
    "tiny-imagenet": Archive(
        url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        file="tiny-imagenet-200.zip",
        md5="90528d7ca1a48142e341f4ef8d21d0de",
        inside="tiny-imagenet-200",
        holds=("train", "val", "wnids.txt", "words.txt"),
        folder="tiny-imagenet-200",
    ),
}
# Somebody's own data: there is nothing to fetch, and nobody to ask.
OWN = {"folder": "a folder of images", "h5": "an HDF5 file"}


def read_raw(dataset: str, raw: Path, *, mixed_formats: bool = False) -> RawData:
    """What a source reads from `raw`; `mixed_formats` is of `folder` and of no other."""
    if dataset == "folder":
        return read_folder(raw, mixed_formats=mixed_formats)
    return SOURCES[dataset](raw)


def download(dataset: str, raw: Path) -> None:
    """Fetch a data set's official files into `raw`; those that are there are not fetched again (CIFAR's: with the right md5).

    Digits need no download. Raises InputError if the network or the disk refuses, if what came is not the official archive, or
    if the data is one's own.
    """
    if dataset not in SOURCES:
        raise InputError(f"dataset is {dataset!r}; expected one of {', '.join(SOURCES)}")
    if dataset in OWN:
        raise InputError(f"{raw}: {dataset!r} is data of your own, which can't be downloaded; put {OWN[dataset]} there")
    if dataset in DOWNLOADS:
        _download_cifar(DOWNLOADS[dataset], raw)
    elif dataset in ARCHIVES:
        _download_archive(ARCHIVES[dataset], raw)


def _download_cifar(layout: CifarLayout, raw: Path) -> None:
    if is_complete(raw, layout):
        return
    folder = layout.locate(raw)
    _fetch(layout.url, layout.archive_md5, folder, Path(layout.url).name, folder.parent)


def _download_archive(archive: Archive, raw: Path) -> None:
    if all((located(raw, archive.folder) / name).exists() for name in archive.holds):
        return
    folder = raw if raw.absolute().name == archive.folder else raw / archive.folder
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"{folder}: expected {', '.join(archive.holds)} in it, or nothing; move it away, then run again"
        )
    # Beside its place first: a folder that is there is whole.
    unpacked = folder.with_name(f".{archive.folder}.partial")
    shutil.rmtree(unpacked, ignore_errors=True)
    _fetch(archive.url, archive.md5, folder, archive.file, unpacked)
    (unpacked / archive.inside).rename(folder)
    shutil.rmtree(unpacked, ignore_errors=True)


def _fetch(url: str, md5: str, folder: Path, file: str, into: Path) -> None:
    """Download an archive beside `folder`, check it, unpack it, and delete it: a `raw` that is `dvc add`ed holds it once."""
    # torchvision's downloader, not its CIFAR100 class: that one would also unpickle the files, with code execution.
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        download_and_extract_archive(url, folder.parent, into, file, md5, remove_finished=True)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{url}: download failed: {reason}; try again, or unpack that archive (md5 {md5}) so that {folder} exists"
        ) from None

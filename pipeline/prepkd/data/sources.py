"""Which data sets there are, and how their raw files come here."""

import http.client
from collections.abc import Callable
from pathlib import Path

from prepkd.data.cifar import CIFAR10, CIFAR100, CifarLayout, is_complete, read_cifar
from prepkd.data.digits import read_digits
from prepkd.data.folder import read_cinic10, read_folder
from prepkd.data.h5 import read_h5
from prepkd.data.raw import RawData
from prepkd.data.tiny_imagenet import read_tiny_imagenet
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


def download(dataset: str, raw: Path) -> None:
    """Fetch a data set's official files into `raw`; those that are there with the right md5 are not fetched again.

    Digits need no download. Raises InputError if the network or the disk refuses, or what came is not the official archive.
    """
    if dataset not in SOURCES:
        raise InputError(f"dataset is {dataset!r}; expected one of {', '.join(SOURCES)}")
    if dataset not in DOWNLOADS:
        return
    layout = DOWNLOADS[dataset]
    if is_complete(raw, layout):
        return
    # torchvision's downloader, not its CIFAR100 class: that one would also unpickle the files, with code execution.
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        # The archive goes, so that a `raw` that is `dvc add`ed doesn't hold everything twice.
        download_and_extract_archive(
            layout.url, layout.locate(raw).parent, md5=layout.archive_md5, remove_finished=True
        )
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{layout.url}: download failed: {reason}; try again, or unpack that archive (md5 {layout.archive_md5}) "
            f"so that {layout.locate(raw)} exists"
        ) from None

"""Data sources: the raw files that `prepare` reads, one source per file."""

from prepkd.data.sources.cifar import CIFAR10, CIFAR100
from prepkd.data.sources.cinic10 import Cinic10
from prepkd.data.sources.digits import Digits
from prepkd.data.sources.folder import Folder
from prepkd.data.sources.h5 import H5
from prepkd.data.sources.source import Source
from prepkd.data.sources.tiny_imagenet import TinyImageNet

# By name, as in `prepare.dataset`.
SOURCES: dict[str, Source] = {
    source.name: source for source in (Digits(), CIFAR10, CIFAR100, Cinic10(), TinyImageNet(), Folder(), H5())
}

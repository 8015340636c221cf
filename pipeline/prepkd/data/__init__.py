"""Data: sources (what is read) and the prepared HDF5 file (what everything else reads)."""

from prepkd.data.file import FORMAT, SPLITS, DataInfo, Split, describe, load_split
from prepkd.data.prepare import prepare
from prepkd.data.raw import RawData
from prepkd.data.sources import SOURCES, download

__all__ = [
    "FORMAT",
    "SOURCES",
    "SPLITS",
    "DataInfo",
    "RawData",
    "Split",
    "describe",
    "download",
    "load_split",
    "prepare",
]

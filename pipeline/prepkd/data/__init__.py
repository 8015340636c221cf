"""Data: sources (what is read) and the prepared HDF5 file (what everything else reads)."""

from prepkd.data.encoded import EncodedImages
from prepkd.data.file import FORMAT, SPLITS, DataInfo, Split, describe, load_split
from prepkd.data.prepare import prepare
from prepkd.data.raw import RawData
from prepkd.data.sources import SOURCES, download, read_raw
from prepkd.data.statistics import Statistics, channel_statistics

__all__ = [
    "FORMAT",
    "SOURCES",
    "SPLITS",
    "DataInfo",
    "EncodedImages",
    "RawData",
    "Split",
    "Statistics",
    "channel_statistics",
    "describe",
    "download",
    "load_split",
    "prepare",
    "read_raw",
]

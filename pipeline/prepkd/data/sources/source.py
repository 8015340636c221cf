"""The interface of a data source."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from prepkd.data.sources.archive import Archive
from prepkd.data.sources.raw import RawData
from prepkd.errors import InputError
from prepkd.settings.section import Section

RAW = "data/raw"


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A dataset's raw files: their place, download and reading.

    `place` is their folder, or their file, below data/raw in a new project. `archive` is the official archive, None without a
    download; `own` names the data that users provide themselves, None for a public dataset. `shape` is the shape of every image,
    None if shapes differ or are unknown.
    """

    name: str
    place: str = ""
    archive: Archive | None = None
    own: str | None = None
    shape: tuple[int, int, int] | None = None  # height, width, channels
    settings: Section = field(default_factory=Section)  # the keys of `prepare` that only this source reads

    @property
    def default_raw(self) -> str:
        """The value of `prepare.raw` in a new project."""
        return f"{RAW}/{self.place}" if self.place else RAW

    @abstractmethod
    def read(self, raw: Path) -> RawData:
        """Read the raw files at `raw`; raises InputError naming the file that is missing or malformed."""

    def download(self, raw: Path) -> None:
        """Fetch the official files into `raw`, unless they exist; bundled data need no download.

        Raises InputError if the network or the disk fails, if the download is not the official archive, or if users provide the
        data themselves.
        """
        if self.own is not None:
            raise InputError(
                f"{raw}: {self.name!r} is data of your own, which can't be downloaded; put {self.own} there"
            )

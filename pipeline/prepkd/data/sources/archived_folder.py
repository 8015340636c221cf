"""Sources whose official archive becomes one folder of images."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from prepkd.data.sources.archive import Archive
from prepkd.data.sources.source import Source
from prepkd.data.sources.tree import subfolder_or_self
from prepkd.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ArchivedFolder(Source):
    """A source whose raw files are the folder `place`: the folder `inside` of the archive.

    The folder is complete if it has all entries of `holds`.
    """

    archive: Archive
    inside: str
    holds: tuple[str, ...]

    def download(self, raw: Path) -> None:
        """Unpack the archive to `raw` if it is named `place`, else to that folder in `raw`; raises InputError.

        A complete folder is not fetched again; an incomplete one is refused.
        """
        if all((subfolder_or_self(raw, self.place) / name).exists() for name in self.holds):
            return
        folder = raw if raw.absolute().name == self.place else raw / self.place
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(
                f"{folder}: expected {', '.join(self.holds)} in it, or nothing; move it away, then run again"
            )
        # Unpacked beside its place and renamed last, so that the folder is either absent or complete.
        unpacked = folder.with_name(f".{self.place}.partial")
        self.archive.unpack(unpacked, folder)
        (unpacked / self.inside).rename(folder)
        shutil.rmtree(unpacked, ignore_errors=True)

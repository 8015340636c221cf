"""A bucket, or another fsspec location, and the local copies that prepkd makes of it."""

from pathlib import Path

import fsspec
from prepkd.data.sources.local_copy import local_files


class Bucket:
    """The files below a URL, and their local copy."""

    def __init__(self, url: str, scratch: Path) -> None:
        self.url, self.scratch, self.said = url, scratch, list[str]()
        self.files = fsspec.core.url_to_fs(url)[0]

    def put(self, name: str, content: bytes) -> None:
        self.files.pipe_file(f"{self.url.partition('://')[2]}/{name}", content)

    def remove(self, name: str) -> None:
        self.files.rm_file(f"{self.url.partition('://')[2]}/{name}")

    def copied(self) -> dict[str, bytes]:
        """Update the local copy and return its files; `said` holds the lines printed meanwhile."""
        self.said = []
        with local_files(self.url, self.scratch, self.said.append) as place:
            return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}

    @property
    def fetched(self) -> list[str]:
        """Files fetched by the last copy, out of all files: `2 of 3`."""
        return [line.partition(": ")[2].partition(" files")[0] for line in self.said]

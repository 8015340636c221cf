"""A local copy of raw files at a URL; only changed files are fetched again."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.callbacks import Callback
from fsspec.core import url_to_fs

from prepkd.errors import InputError, one_line
from prepkd.runtime.files import fingerprint, fsync, read_object, write_json
from prepkd.runtime.scratch import scratch
from prepkd.runtime.services import DELAYS, PATIENCE, RATE, failures, is_remote, may_pass, words

LISTING = 3600.0  # seconds for a listing; an object store gives 1,000 names per request
MAX_FILES = 2**24
MAX_INDEX_BYTES = 2**10 * MAX_FILES
AT_ONCE = 32  # requests
GROUP = 512  # files, after which the index of the copy is written
# Keys under which services give a file's version; the file is fetched again if it changes.
VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "updated", "created")
Versions = dict[str, list[Any]]  # a file's path below the URL: its bytes and its version


@contextlib.contextmanager
def local_files(raw: Path | str, root: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """Yield the path of raw files: `raw` itself, or for a URL an updated copy in `root`, locked while in use.

    The copy is kept. `say` gets one line while waiting for another process, and one if files must be fetched. Raises InputError
    if the service fails, for names outside the URL, and if the disk is too full; messages about faults in the copy name the URL.
    """
    if not is_remote(raw):
        yield Path(raw)
        return
    url = str(raw).rstrip("/")
    with scratch(root, f"raw-{fingerprint(url)[:32]}", on_wait=say, keep=True) as folder:
        place = folder / "files"
        try:
            _update(url, folder, say)
            yield place
        except InputError as error:
            raise InputError(*(str(line).replace(str(place), url) for line in error.args)) from None


@dataclass(frozen=True)
class _Service:
    """The files at a URL, read with an fsspec file system; failures become one line.

    Requests of asynchronous file systems (s3, gs, az, http) have a time limit. Others, such as sftp, cannot be interrupted: only
    their own limits hold.
    """

    url: str
    files: AbstractFileSystem
    root: str

    @classmethod
    def opened(cls, url: str) -> "_Service":
        try:
            files, root = url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError, OSError) as error:
            raise InputError(f"{url}: cannot be opened: {one_line(error)}") from None
        return cls(url, files, root.rstrip("/"))

    def versions(self) -> Versions:
        """List every file below the URL, or the URL itself, named "", with size and version."""
        itself = self._tried("info", self.root, seconds=PATIENCE)
        if itself["type"] == "file":
            return {"": self._version(self.root, itself)}
        found: Mapping[str, Mapping[str, Any]] = self._tried("find", self.root, seconds=LISTING, detail=True)
        if len(found) > MAX_FILES:
            raise InputError(f"{self.url}: {len(found):,} files; expected at most {MAX_FILES:,}")
        return {self._below(name): self._version(name, about) for name, about in found.items() if name[-1:] != "/"}

    def fetch(self, below: str, to: Path, size: int) -> None:
        """Fetch one file of `size` bytes to the path `to`; raises InputError if more or fewer come."""
        remote, url = (f"{root}/{below}" if below else root for root in (self.root, self.url))
        limit = Callback(hooks={"size": partial(_refuse_more, url, to, size)})
        self._tried("get_file", remote, str(to), seconds=PATIENCE + size / RATE, callback=limit)
        if (found := to.stat().st_size) != size:
            raise InputError(f"{url}: {found:,} bytes came, {size:,} were listed; run again")
        fsync(to)

    def _tried(self, name: str, *arguments: Any, seconds: float, **options: Any) -> Any:
        delays = iter(DELAYS)
        while True:
            try:
                if isinstance(self.files, AsyncFileSystem):
                    work = getattr(self.files, f"_{name}")
                    return sync(self.files.loop, work, *arguments, timeout=seconds, **options)
                return getattr(self.files, name)(*arguments, **options)
            except failures() as error:
                delay = next(delays, None)
                if delay is None or not may_pass(error):
                    raise InputError(
                        f"{self.url}: {words(error)}; check URL, network and credentials (docs/how-to/own-data.md)"
                    ) from None
                time.sleep(delay)

    def _below(self, name: str) -> str:
        below = name.removeprefix(f"{self.root}/")
        if below == name or not {"", ".", ".."}.isdisjoint(below.split("/")) or "\0" in below:
            raise InputError(f"{self.url}: lists {name!r}; expected names below it, without empty parts, '.' and '..'")
        return below

    def _version(self, name: str, about: Mapping[str, Any]) -> list[Any]:
        size = about.get("size")
        if not isinstance(size, int):
            raise InputError(f"{self.url}: {name!r} has no size; expected a service that tells it")
        return [size, next((str(about[key]) for key in VERSIONS if about.get(key)), "")]


def _update(url: str, folder: Path, say: Callable[[str], None]) -> None:
    """Make the copy, `folder/files`, equal to the files at the URL; an index beside it records the copy's versions."""
    service, index, place, unfinished = _Service.opened(url), folder / "versions.json", folder / "files", folder / "new"
    wanted, there = service.versions(), _known(index)
    missing = [
        below
        for below, version in wanted.items()
        if there.get(below) != version or not _is_whole(place, below, version)
    ]
    gone = [below for below in there if below not in wanted]
    if not missing and not gone:
        return
    needed = sum(wanted[below][0] for below in missing)
    _refuse_full(url, folder, needed)
    there = {below: version for below, version in there.items() if below not in {*gone, *missing}}
    write_json(index, there)  # before the files change: a file missing from the index is fetched again
    if not there:  # also removes the files of a lost index
        shutil.rmtree(place, ignore_errors=True)
        place.unlink(missing_ok=True)
    _remove(place, gone)
    say(f"{url}: {len(missing):,} of {len(wanted):,} files to fetch, {needed / 1e6:,.1f} MB, into {folder}")
    waiting = iter(missing)
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while group := list(islice(waiting, GROUP)):
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                sizes = [wanted[one][0] for one in group]
                for _ in pool.map(partial(_fetch, service, place, unfinished), group, sizes):
                    pass
                there |= {below: wanted[below] for below in group}
                write_json(index, there)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _refuse_more(url: str, to: Path, listed: int, *_: object, **__: object) -> None:
    """Called by fsspec after each part of a file that it writes to the path `to`: an answer may never end."""
    found = to.stat().st_size if to.exists() else 0
    if found > listed:
        raise InputError(f"{url}: {found:,} bytes came, {listed:,} were listed; run again")


def _fetch(service: _Service, place: Path, unfinished: Path, below: str, size: int) -> None:
    part = unfinished / fingerprint(below)
    service.fetch(below, part, size)
    target = place / below
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
    except (NotADirectoryError, IsADirectoryError, FileExistsError):
        raise InputError(f"{service.url}/{below}: is a file and a folder; expected one of them; rename one") from None


def _is_whole(place: Path, below: str, version: list[Any]) -> bool:
    """Whether a file of the copy is up to date; never if the service gives no version."""
    path = place / below
    return bool(version[1]) and path.is_file() and path.stat().st_size == version[0]


def _known(index: Path) -> Versions:
    try:
        return read_object(index, MAX_INDEX_BYTES)
    except (OSError, ValueError):  # missing or damaged: everything is fetched
        return {}


def _remove(place: Path, gone: list[str]) -> None:
    """Remove files that are no longer at the URL, and folders that become empty."""
    for below in gone:
        (place / below).unlink(missing_ok=True)
        for parent in Path(below).parents[:-1]:
            with contextlib.suppress(OSError):  # not empty
                (place / parent).rmdir()


def _refuse_full(url: str, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{url}: {needed / 1e9:,.1f} GB to fetch; expected that much room in {folder}, found {free / 1e9:,.1f} GB; "
            "make room, or set PREPKD_SCRATCH to a folder on another disk"
        )

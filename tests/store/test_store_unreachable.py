"""A place that cannot be reached or read is neither missing nor damaged: its files stay, and no answer is computed again."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prepkd.errors import InputError, UnreachableError
from prepkd.store import LogitStore, remote
from prepkd.store.integrity import damages
from prepkd.store.ownership import refuse_foreign_store
from prepkd.store.place import open_place
from prepkd.store.unfinished import finished_summary, resume_writer
from prepkd.store.writer import StoreWriter
from store_checks import files, refused
from store_writing import ATTRIBUTES, LAYOUT, answer, open_writer, write, writing
from zarr.storage import FsspecStore

CHUNK = "logits/c/1/0/0"
FILES = ["manifest.json", "zarr.json", "params/zarr.json", "summary.json", CHUNK]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a finished store in this process's memory, as in a bucket; return its URL."""
    monkeypatch.setattr(remote, "DELAYS", ())
    url = f"memory://{tmp_path.name}/large.zarr"
    with writing(url, tmp_path / "scratch") as writer:
        for view, chunk in list(writer.pending()):
            writer.write(view, chunk, answer(view, LAYOUT.slice(chunk)))
    return url


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that lets reads of a file in a bucket fail, after some that succeed and for some times."""

    def fail(key: str, *, after: int = 0, times: int = 99) -> None:
        get, calls = FsspecStore.get, 0

        async def flaky(self: FsspecStore, name: str, *arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += name == key
            if name == key and after < calls <= after + times:
                raise ConnectionResetError("reset")
            return await get(self, name, *arguments, **named)

        monkeypatch.setattr(FsspecStore, "get", flaky)

    return fail


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that lets reads of a local file fail, as a broken disk or a lost network file system does."""

    def fail(path: Path) -> None:
        fstat = os.fstat

        def failing(handle: int) -> os.stat_result:
            if Path(f"/proc/self/fd/{handle}").readlink() == path:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return fstat(handle)

        monkeypatch.setattr(os, "fstat", failing)

    return fail


@pytest.mark.parametrize("file", FILES)
def test_a_bucket_that_fails_keeps_its_finished_store(
    bucket: str, tmp_path: Path, failing: Callable[..., None], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(bucket)
    failing(file)
    assert "reset; check URL" in refused(UnreachableError, finished_summary, bucket, ATTRIBUTES)
    refused(UnreachableError, resume_writer, bucket, LAYOUT, ATTRIBUTES, tmp_path, print)
    with pytest.raises(UnreachableError), writing(bucket, tmp_path / "scratch"):
        raise AssertionError
    monkeypatch.undo()  # the bucket answers again
    assert files(bucket) == before


@pytest.mark.parametrize("file", ["zarr.json", "params/zarr.json"])
def test_one_failed_read_of_a_description_clears_nothing(bucket: str, failing: Callable[..., None], file: str) -> None:
    before = files(bucket)
    failing(file, times=1)
    refused(UnreachableError, StoreWriter, open_place(bucket, write=True), LAYOUT, ATTRIBUTES, bucket)
    assert files(bucket) == before


def test_a_store_that_cannot_be_reached_is_not_called_foreign(bucket: str, failing: Callable[..., None]) -> None:
    failing("zarr.json", times=1)
    refused(UnreachableError, refuse_foreign_store, bucket)


def test_places_around_a_store_may_be_denied(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials may cover only the store's own prefix."""
    get, own = FsspecStore.get, open_place(bucket)

    async def only_own(self: FsspecStore, *arguments: Any, **named: Any) -> Any:
        if self.path != own.path:  # type: ignore[attr-defined]
            raise PermissionError("denied")
        return await get(self, *arguments, **named)

    monkeypatch.setattr(FsspecStore, "get", only_own)
    refuse_foreign_store(bucket)


def test_the_error_stays_what_it_is_with_a_teachers_name(bucket: str, failing: Callable[..., None]) -> None:
    failing("manifest.json")
    refused(UnreachableError, LogitStore.open, bucket, teacher="large")


def test_a_check_of_every_file_ends_where_the_place_fails(bucket: str, failing: Callable[..., None]) -> None:
    failing(CHUNK)
    refused(UnreachableError, damages, bucket)


@pytest.mark.parametrize("file", FILES)
def test_a_disk_that_fails_repeats_no_work(
    folder: Path, tmp_path: Path, unreadable: Callable[[Path], None], file: str
) -> None:
    unreadable(folder / file)
    with pytest.raises((UnreachableError, OSError)) as caught:
        finished_summary(str(folder), ATTRIBUTES)
    assert str(folder / file) in str(caught.value)
    with pytest.raises((UnreachableError, OSError)), writing(folder, tmp_path / "scratch"):
        raise AssertionError


def test_a_chunk_that_the_disk_does_not_return_is_not_called_unfinished(
    tmp_path: Path, unreadable: Callable[[Path], None]
) -> None:
    write(tmp_path / "work")
    writer = open_writer(tmp_path / "work")
    unreadable(tmp_path / "work" / CHUNK)
    with pytest.raises(OSError, match="Input/output error") as caught:
        writer.done(1, 0)
    assert caught.value.filename == str(tmp_path / "work" / CHUNK)
    assert not issubclass(caught.type, InputError)

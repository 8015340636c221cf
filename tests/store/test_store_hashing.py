"""Files are hashed once, and again if they may have changed."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import store_writing
from prepkd.errors import InputError
from prepkd.store import LogitStore, checked
from prepkd.store.durable import DurableStore
from prepkd.store.layout import manifest_of
from prepkd.store.place import put
from store_checks import refused
from zarr.storage import LocalStore

LOGITS = "logits/c/0/0/0"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the keys that a reader hashes, in order."""
    keys: list[str] = []
    check = checked.CheckedStore.check

    def counted(self: checked.CheckedStore, key: str, content: bytes) -> None:
        keys.append(key)
        check(self, key, content)

    monkeypatch.setattr(checked.CheckedStore, "check", counted)
    return keys


def test_an_unchanged_file_is_hashed_once(folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "MIN_FILE_AGE", -1)
    store = LogitStore.open(folder)
    hashed.clear()
    first, second = store.logits(0), store.logits(0)
    np.testing.assert_array_equal(first, second)
    keys = [key for chunk in range(3) for key in store.layout.keys(0, chunk).values()]
    assert sorted(hashed) == sorted(keys)


def test_a_young_file_is_hashed_every_time(folder: Path, hashed: list[str]) -> None:
    """A change within the same tick of the clock may leave the file's times unchanged."""
    for file in folder.rglob("*"):
        os.utime(file)
    store = LogitStore.open(folder)
    for _ in range(2):
        hashed.clear()
        store.logits(0)
        assert LOGITS in hashed


@pytest.mark.parametrize("how", ["in place", "replaced", "with its old time"])
def test_a_file_that_changes_is_hashed_again(folder: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another view's chunk has a valid crc32c: only the hash reveals it."""
    monkeypatch.setattr(checked, "MIN_FILE_AGE", -1)
    store = LogitStore.open(folder)
    store.logits(0)
    file, other = folder / LOGITS, folder / "logits/c/1/0/0"
    before = file.stat()
    if how == "replaced":
        (folder / "copy").write_bytes(other.read_bytes())
        (folder / "copy").replace(file)
    else:
        file.write_bytes(other.read_bytes())
    if how == "with its old time":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert LOGITS in refused(InputError, store.logits, 0)


def test_a_flipped_bit_with_unchanged_times_is_found(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The damage changes no time of a file that was hashed before: crc32c detects it, and the hash names the file."""
    monkeypatch.setattr(checked, "MIN_FILE_AGE", -1)
    store = LogitStore.open(folder)
    store.logits(0)
    identity = store.store._identity(LOGITS)
    content = bytearray((folder / LOGITS).read_bytes())
    content[7] ^= 1
    (folder / LOGITS).write_bytes(content)
    monkeypatch.setattr(store.store, "_identity", lambda key: identity)
    monkeypatch.setitem(store.store._hashed, LOGITS, identity)
    hashed.clear()
    assert LOGITS in refused(InputError, store.logits, 0)


def test_the_manifest_has_the_hash_of_what_is_there(tmp_path: Path) -> None:
    """The writer knows the hashes of its own files, and reads a file that another process replaced."""
    writer = store_writing.open_writer(tmp_path)
    for view, chunk in writer.pending():
        writer.write(view, chunk, store_writing.answer(view, writer.layout.slice(chunk)))
    writer.finish(store_writing.LABELS)
    store = writer.store
    assert isinstance(store, DurableStore)
    content = (tmp_path / LOGITS).read_bytes()
    assert store.written(LOGITS) == hashlib.sha256(content).hexdigest()
    assert manifest_of(store, store_writing.LAYOUT) == manifest_of(LocalStore(tmp_path), store_writing.LAYOUT)

    put(DurableStore(tmp_path), LOGITS, content[::-1])  # as by another process
    assert store.written(LOGITS) is None
    found = manifest_of(store, store_writing.LAYOUT)
    assert found[LOGITS] == hashlib.sha256(content[::-1]).hexdigest()
    assert store.written("nothing") is None

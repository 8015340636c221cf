"""Files are complete or absent; fingerprints depend on content alone."""

import errno
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepkd.runtime.files import (
    array_fingerprint,
    atomic_file,
    canonical_json,
    file_sha256,
    fingerprint,
    has_ended,
    publish,
    read_object,
    this_process,
    write_bytes,
    write_json,
)

BOOT = Path("/proc/sys/kernel/random/boot_id")


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_replacing_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"one", b"two"):
        with atomic_file(path) as temporary:
            assert temporary.parent == path.parent, "a rename across devices isn't atomic"
            temporary.write_bytes(content)
            assert not path.exists() or path.read_bytes() == b"one"
        assert tree(tmp_path) == {"new/folder/file": content}


@pytest.mark.parametrize("exists", [True, False])
def test_failure_leaves_the_target_and_nothing_else(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "file"
    if exists:
        path.write_bytes(b"old")
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert tree(tmp_path) == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_target_and_nothing_else(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    write_bytes(tmp_path / "file", b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="Input/output"):
        write_bytes(tmp_path / "file", b"new")
    assert tree(tmp_path) == {"file": b"old"}


KILLED = """
import os, signal, sys
from pathlib import Path
from prepkd.runtime.files import atomic_file

with atomic_file(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    if len(sys.argv) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    print(temporary.name, flush=True)
    sys.stdin.read()
"""


def left_by_a_killed(path: Path) -> Path:
    before = set(path.parent.iterdir())
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -9
    (left,) = set(path.parent.iterdir()) - before
    return left


def test_the_next_write_removes_what_killed_processes_left_of_this_path_only(tmp_path: Path) -> None:
    path, longer = tmp_path / "data[1]", tmp_path / "data[1].h5"
    left, other = left_by_a_killed(path), left_by_a_killed(longer)
    folder = path.with_name(left.name.replace("-", "-9"))
    write_bytes(folder / "chunk", b"half")  # `publish` leaves such a folder across devices
    write_bytes(path, b"whole")
    assert tree(tmp_path) == {"data[1]": b"whole", other.name: b"half"}
    write_bytes(longer, b"whole")
    assert tree(tmp_path) == {"data[1]": b"whole", "data[1].h5": b"whole"}


def test_a_writer_that_lives_keeps_its_file_however_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    command = [sys.executable, "-c", KILLED, path, "and wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin and writer.stdout
        temporary = tmp_path / writer.stdout.readline().strip()
        os.utime(temporary, (0, 0))
        write_bytes(path, b"ours")
        assert tree(tmp_path) == {"file": b"ours", temporary.name: b"half"}
        writer.stdin.close()
    assert writer.returncode == 0 and tree(tmp_path) == {"file": b"half"}


def test_another_machines_file_is_removed_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    left = left_by_a_killed(path)
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    for hours, kept in ((23, True), (25, False)):
        os.utime(left, (time.time() - hours * 3600,) * 2)
        write_bytes(path, b"ours")
        assert left.exists() == kept


@pytest.mark.skipif(not BOOT.exists(), reason="only Linux identifies a boot")
def test_two_machines_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cloned machines share the host name, and all of Linux's machines the inode of the first namespace of processes."""
    ours, read = this_process(), Path.read_text
    assert has_ended(ours) is False
    monkeypatch.setattr(Path, "read_text", lambda path: "another boot" if path == BOOT else read(path))
    assert has_ended(ours) is None and this_process() != ours


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Record which inodes are flushed and renamed, in order."""
    seen: list[tuple[str, int]] = []
    fsync = os.fsync

    def watched_fsync(handle: int) -> None:
        seen.append(("fsync", os.fstat(handle).st_ino))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched_fsync)

    def watched(rename: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        def renaming(source: Path, target: Path) -> None:
            inode = Path(source).stat().st_ino
            rename(source, target)
            seen.append(("rename", inode))

        return renaming

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    return seen


def test_content_then_name_then_folder(tmp_path: Path, events: list[tuple[str, int]]) -> None:
    write_bytes(tmp_path / "file", b"content")
    file, folder = (tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino
    assert events == [("fsync", file), ("rename", file), ("fsync", folder)]


def test_json_is_sorted_strict_and_ends_its_last_line(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1.5,\n    null\n  ],\n  "b": 1\n}\n'
    assert canonical_json({"b": {"d": 1, "c": 2}, "a": []}) == '{"a":[],"b":{"c":2,"d":1}}'
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json(value)
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "a.json", value)
    assert len(tree(tmp_path)) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": ', "not JSON: Expecting value"),
        (b'{"a": "\xff"}', "not JSON: 'utf-8' codec can't decode"),
        (b"[" * 100_000, "not JSON: maximum recursion depth"),
        (b"[1]", "holds a list; expected a JSON object"),
        (b'{"a": 1}' + b" " * 2**18, "262,152 bytes; expected at most 200,000"),
    ],
    ids=["cut", "bytes", "nested", "list", "large"],
)
def test_what_is_no_json_object_of_bounded_size_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": 1}')
    assert read_object(path, 8) == {"a": 1}
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{says}"):
        read_object(path, 200_000)


def test_fingerprints_of_values_and_files(tmp_path: Path) -> None:
    assert fingerprint({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    assert fingerprint({"a": 2, "b": 1}) == fingerprint({"b": 1, "a": 2}) != fingerprint({"a": 1, "b": 2})
    (tmp_path / "file").write_bytes(b"content" * 100_000)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"content" * 100_000).hexdigest()


def source_and_target(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "work" / "store", tmp_path / "data" / "store.zarr"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "manifest.json").write_bytes(b"new")
    (source / "deep" / "er" / "chunk").write_bytes(b"chunk")
    return source, target


NEW = {"manifest.json": b"new", "deep/er/chunk": b"chunk"}


@pytest.mark.parametrize("exists", [True, False])
def test_publish_moves_and_replaces_the_whole(tmp_path: Path, exists: bool) -> None:
    source, target = source_and_target(tmp_path)
    if exists:
        write_bytes(target / "old", b"old")
    inode = (source / "deep" / "er" / "chunk").stat().st_ino
    publish(source, target)
    assert tree(target) == NEW
    assert (target / "deep" / "er" / "chunk").stat().st_ino == inode, "moved, not copied"
    assert not source.exists()
    assert list(target.parent.iterdir()) == [target]


@pytest.fixture
def other_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a rename out of `work` fail like a rename between two file systems."""
    rename = os.rename

    def across(source: Path, target: Path) -> None:
        if Path(source).is_relative_to(tmp_path / "work") != Path(target).is_relative_to(tmp_path / "work"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", across)


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.usefixtures("other_device")
def test_publish_across_devices_copies_flushes_renames(
    tmp_path: Path, exists: bool, events: list[tuple[str, int]]
) -> None:
    source, target = source_and_target(tmp_path)
    if exists:
        (target / "old").mkdir(parents=True)
    publish(source, target)
    assert tree(target) == NEW
    assert not source.exists()
    assert list(target.parent.iterdir()) == [target]
    # All copies, including folders, are on disk before the rename; the name is flushed last.
    named = max(k for k, event in enumerate(events) if event == ("rename", target.stat().st_ino))
    for path in (target, *target.rglob("*")):
        assert ("fsync", path.stat().st_ino) in events[:named], path
    assert events[-1] == ("fsync", target.parent.stat().st_ino)


@pytest.mark.usefixtures("other_device")
def test_publish_onto_a_full_disk_leaves_the_old_and_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = source_and_target(tmp_path)
    write_bytes(target / "old", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        publish(source, target)
    assert tree(source) == NEW
    assert tree(target.parent) == {"store.zarr/old": b"old"}


def test_publish_without_permission_puts_the_old_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = source_and_target(tmp_path)
    write_bytes(target / "old", b"old")
    rename = os.rename

    def denied(one: Path, other: Path) -> None:
        if Path(one) == source:
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(one, other)

    monkeypatch.setattr(os, "rename", denied)
    with pytest.raises(PermissionError):
        publish(source, target)
    assert tree(source) == NEW
    assert tree(target.parent) == {"store.zarr/old": b"old"}


BASE = np.arange(6, dtype=np.int32).reshape(2, 3)


def test_an_arrays_fingerprint_is_its_documented_hash() -> None:
    labels = np.array([258], np.int64)
    head_images, head_labels = b'["images","<i4",[2,3]]', b'["labels","<i8",[1]]'
    content = b"".join(n.to_bytes(4, "little") for n in range(6))
    expected = hashlib.sha256(head_images + content + head_labels + b"\2\1\0\0\0\0\0\0").hexdigest()
    assert array_fingerprint({"labels": labels, "images": BASE}) == expected
    assert array_fingerprint({"images": BASE, "labels": labels}) == expected


@pytest.mark.parametrize(
    "other",
    [
        {"b": BASE},
        {"a": BASE.astype(np.int64)},
        {"a": BASE.view(np.uint32)},
        {"a": BASE.view(np.float32)},
        {"a": BASE.reshape(3, 2)},
        {"a": BASE.reshape(6)},
        {"a": BASE.T},
        {"a": BASE + 1},
        {"a": BASE[:1], "b": BASE[1:]},
        {"a": BASE, "b": BASE[:0]},
        {},
    ],
)
def test_an_arrays_fingerprint_sees_name_type_shape_and_content(other: dict[str, Any]) -> None:
    assert array_fingerprint(other) != array_fingerprint({"a": BASE})


@pytest.mark.parametrize("dtype", ["i2", "u4", "f4", "f8", "i8"])
def test_an_arrays_fingerprint_is_the_same_on_every_machine_and_in_every_memory_order(dtype: str) -> None:
    little = np.arange(12).reshape(3, 4).astype(f"<{dtype}")
    for same in (
        little.astype(f">{dtype}"),
        np.asfortranarray(little),
        np.repeat(little, 2, axis=1)[:, ::2],
        np.asfortranarray(little.astype(f">{dtype}")),
    ):
        assert array_fingerprint({"a": same}) == array_fingerprint({"a": little})


def objects(*items: Any) -> dict[str, Any]:
    array = np.empty(len(items), object)
    array[:] = items
    return {"a": array}


def test_byte_strings_keep_their_bounds() -> None:
    assert array_fingerprint(objects(b"ab", b"c")) == array_fingerprint(objects(b"ab", b"c"))
    assert array_fingerprint(objects(b"ab", b"c")) != array_fingerprint(objects(b"a", b"bc"))
    assert array_fingerprint(objects(b"ab", b"")) != array_fingerprint(objects(b"", b"ab"))
    # HDF5 returns this for variable-length bytes.
    mixed = np.empty(2, object)
    mixed[0], mixed[1] = np.frombuffer(b"ab", np.uint8), np.frombuffer(b"c", np.uint8)
    assert array_fingerprint({"a": mixed}) == array_fingerprint(objects(b"ab", b"c"))


def test_empty_and_scalar_arrays_have_fingerprints() -> None:
    found = {array_fingerprint({"a": a}) for a in (np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(()), np.zeros(1))}
    assert len(found) == 4

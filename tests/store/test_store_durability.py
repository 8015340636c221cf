"""The order in which a store is written: by system calls on a disk, by files in a place without rename."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.integrity import damages
from prepkd.store.place import get, keys
from prepkd.store.remote import RemoteStore
from prepkd.store.writer import StoreWriter
from store_checks import refused
from store_writing import LABELS, SMALL, answer, attributes, contents, write
from zarr.abc.store import Store
from zarr.core.buffer import Buffer
from zarr.storage import WrapperStore

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from store_writing import SMALL, write
write(Path(sys.argv[2]), layout=SMALL)
"""
CALLS = "openat,write,fsync,mkdir,rename"
FILES = [file for chunk in (0, 1) for file in SMALL.keys(0, chunk).values()]


class Call(NamedTuple):
    """A system call: the lines of the trace where it began and ended, its name, and the paths that it names."""

    began: int
    ended: int
    name: str
    paths: list[str]


def parse(lines: list[str], folder: Path) -> Iterator[Call]:
    """Yield the calls that touch a folder; a call interrupted by another thread takes two lines."""
    waiting: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        process, text = line.split(maxsplit=1)
        began = number
        if text.endswith("<unfinished ...>"):
            waiting[process] = number, text.removesuffix("<unfinished ...>")
            continue
        if text.startswith("<... "):
            began, start = waiting.pop(process)
            text = start + text.partition("resumed>")[2]
        if match := re.fullmatch(r"(\w+)\((.*)\) += \d.*", text):  # a call that failed changes nothing
            paths = re.findall(rf'[<"]({re.escape(str(folder))}[^>"]*)[>"]', match[2])
            yield Call(began, number, match[1], paths)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Call]]:
    """Trace the system calls of a writer of two chunks."""
    folder = tmp_path_factory.mktemp("traced")
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here (ptrace is forbidden)")
    program = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(folder / "store")]
    command = ["strace", "-f", "-y", "-e", f"trace={CALLS}", "-o", str(folder / "trace"), *program]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return folder / "store", list(parse((folder / "trace").read_text().splitlines(), folder / "store"))


def only(calls: list[Call], name: str, path: Path) -> Call:
    """Return the one call of that name on this path; for a rename the path is the new one."""
    (found,) = [call for call in calls if call.name == name and call.paths[-1:] == [str(path)]]
    return found


def flushed(calls: list[Call], path: Path, after: int) -> int:
    """Return when a path was first flushed after a line of the trace."""
    return min(
        call.ended for call in calls if call.name == "fsync" and call.paths == [str(path)] and call.began > after
    )


def test_each_file_is_on_disk_before_it_has_its_name_and_its_name_before_the_next_begins(
    trace: tuple[Path, list[Call]],
) -> None:
    folder, calls = trace
    arrays = [f"{name}/zarr.json" for name in sorted(SMALL.fields)]
    order = [*FILES, "summary.json", "manifest.json"]
    named = {}
    for file in ["zarr.json", *arrays, *order]:
        renamed = only(calls, "rename", folder / file)
        temporary = Path(renamed.paths[0])
        assert temporary.parent == (folder / file).parent and temporary.suffix == ".partial"
        created = only(calls, "openat", temporary)
        written = only(calls, "write", temporary)
        synced = only(calls, "fsync", temporary)
        assert created.ended < written.began and written.ended < synced.began and synced.ended < renamed.began
        named[file] = created.began, flushed(calls, (folder / file).parent, renamed.ended)
    assert all(named["zarr.json"][1] < named[file][0] for file in [*arrays, *order])
    assert all(named[array][1] < named[FILES[0]][0] for array in arrays)
    # params, row_max, logits; params, row_max, logits; summary, manifest: each is durable before the next begins.
    assert [file.split("/")[0] for file in order] == [
        *2 * ["params", "row_max", "logits"],
        "summary.json",
        "manifest.json",
    ]
    for one, following in pairwise(order):
        assert named[one][1] < named[following][0], (one, following)
    assert (
        max(call.began for call in calls if call.name == "rename")
        == only(calls, "rename", folder / "manifest.json").began
    )


def test_each_folder_is_on_disk_before_anything_is_put_into_it(trace: tuple[Path, list[Call]]) -> None:
    folder, calls = trace
    made = [call for call in calls if call.name == "mkdir" and call.paths]
    assert {Path(call.paths[0]) for call in made} >= {folder, folder / "logits", folder / "logits/c/0/1"}
    for call in made:
        path = Path(call.paths[0])
        if path == folder:
            continue  # its parent is outside the store
        first = min(
            one.began for one in calls if one.name == "openat" and one.paths and path in Path(one.paths[0]).parents
        )
        assert flushed(calls, path.parent, call.ended) < first, path


class Dies(Exception):
    """Stands for the end of a process."""


class Mortal(WrapperStore[Store]):
    """A place whose writer dies at one of its writes; if `torn`, half of the file is written."""

    def __init__(self, store: Store, left: int, *, torn: bool) -> None:
        super().__init__(store)
        self.left, self.torn, self.written = left, torn, []

    async def set(self, key: str, value: Buffer) -> None:
        self.left -= 1
        if self.left < 0:
            if self.torn:
                await super().set(key, value[: len(value) // 2])
            raise Dies
        await super().set(key, value)
        self.written.append(key)


def write_at(store: Store) -> None:
    """Write the pending chunks, then finish."""
    writer = StoreWriter(store, SMALL, attributes(SMALL), "there")
    for view, chunk in list(writer.pending()):
        writer.write(view, chunk, answer(view, SMALL.slice(chunk), layout=SMALL))
    writer.finish(LABELS[:12])


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_without_rename_the_manifest_comes_last_and_what_lacks_it_is_refused(
    tmp_path: Path, protocol: str, torn: bool
) -> None:
    """The writer is killed at each write in turn; a bucket's writes are atomic, those to a plain folder may be torn."""
    write(tmp_path / "expected", layout=SMALL)
    expected = contents(tmp_path / "expected")
    for step in range(len(expected) + 1):
        url = f"{protocol}://{tmp_path}/{uuid4().hex}"
        options = {"auto_mkdir": True} if protocol == "file" else {}
        # Opened without `open_place`, which refuses file:// for writing in place; other services may write so without notice.
        reading, writing = (RemoteStore.from_url(url, options, read_only=only) for only in (True, False))
        place = Mortal(writing, step, torn=torn)
        if step == len(expected):
            write_at(place)
            assert place.written[-2:] == ["summary.json", "manifest.json"]
            assert [key for key in place.written if "/c/" in key] == FILES
        else:
            with pytest.raises(Dies):
                write_at(place)
            assert refused(InputError, LogitStore.open, reading).startswith(f"{reading}: ")
            if step:
                assert damages(reading)[0].chunk == "manifest.json"
            whole = [key for key in place.written if key in FILES]
            kept = whole[: len(whole) // 3 * 3]
            resumed = Mortal(writing, 10**6, torn=False)
            write_at(resumed)
            assert not set(kept) & set(resumed.written), "a finished chunk was redone"
        assert {key: get(reading, key) for key in keys(reading)} == expected
        assert LogitStore.open(reading).logits(0).shape == (12, 5)

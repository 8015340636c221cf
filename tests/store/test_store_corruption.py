"""Any damage in a finished store is found and named on reading."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from prepkd.errors import InputError
from prepkd.runtime.files import write_json
from prepkd.store import LogitStore
from prepkd.store.attributes import FORMAT
from prepkd.store.layout import manifest_of
from prepkd.views import ViewPlan
from store_checks import refused
from store_writing import LABELS, LAYOUT, answer, chunk_files, contents, open_writer
from zarr.storage import LocalStore


def read_all(folder: Path) -> None:
    store = LogitStore.open(folder)
    for view in range(store.views):
        store.slab(view)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped bit": flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damaged_file_is_named(folder: Path, damage: str) -> None:
    read_all(folder)
    files = contents(folder)
    del files["manifest.json"]
    assert {path.split("/")[0] for path in files} == {"logits", "params", "row_max", "summary.json", "zarr.json"}
    for name, content in files.items():
        path = folder / name
        DAMAGES[damage](path)
        text = refused(InputError, read_all, folder)
        assert text.startswith(f"{folder}: {name}"), text
        assert "cache-logits" in text
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)
    read_all(folder)


def test_the_refusal_of_a_damaged_chunk_in_full(folder: Path) -> None:
    path = chunk_files(folder, 1, 2)["logits"]
    path.write_bytes(b"")
    expected = json.loads((folder / "manifest.json").read_text())["logits/c/1/2/0"]
    store = LogitStore.open(folder)  # opening does not read the chunks
    store.slab(0)
    for read in (store.slab, store.logits):
        assert refused(InputError, read, 1) == (
            f"{folder}: logits/c/1/2/0: sha256 is e3b0c44298fc, the manifest says {expected[:12]}; "
            "fetch the store again, or run cache-logits"
        )


@pytest.mark.parametrize("array", ["logits", "params", "row_max"])
def test_every_swapped_pair_of_chunks_is_found(folder: Path, array: str) -> None:
    """A chunk's own checksum cannot tell which chunk it is."""
    chunks = [chunk_files(folder, view, chunk)[array] for view in range(3) for chunk in range(3)]
    for one, other in itertools.combinations(chunks, 2):
        contents_before = one.read_bytes(), other.read_bytes()
        assert contents_before[0] != contents_before[1]
        one.write_bytes(contents_before[1])
        other.write_bytes(contents_before[0])
        text = refused(InputError, read_all, folder)
        assert any(f"{folder}: {path.relative_to(folder)}: sha256 is " in text for path in (one, other))
        one.write_bytes(contents_before[0])
        other.write_bytes(contents_before[1])


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("zarr.json", '"seed": 7', '"seed": 8'),
        ("logits/zarr.json", '"fill_value": "NaN"', '"fill_value": 0.0'),
        ("row_max/zarr.json", "float32", "uint32"),
        ("params/zarr.json", "crc32c", "crc32d"),
        ("summary.json", "teacher_error", "teacher_erros"),
    ],
)
def test_edited_metadata_is_refused(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    assert refused(InputError, read_all, folder).startswith(f"{folder}: {file}: sha256 is ")


def test_a_missing_store_and_a_missing_manifest(folder: Path) -> None:
    none = folder.with_name("none.zarr")
    assert refused(InputError, LogitStore.open, none) == f"{none}: no such store; run `prepkd cache-logits NAME`"
    (folder / "manifest.json").unlink()
    assert refused(InputError, LogitStore.open, str(folder)) == (
        f"{folder}: no manifest.json, so there is no finished store; run `prepkd cache-logits NAME` again"
    )
    assert refused(InputError, LogitStore.open, str(folder), teacher="large") == (
        f"{folder}: no manifest.json, so there is no finished store; run `prepkd cache-logits large` again"
    )


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xff", b"null", b"[]", b"{}", b"3", b'{"zarr.json": 3}'])
def test_a_manifest_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    assert refused(InputError, LogitStore.open, folder).startswith(f"{folder}: ")


def test_no_byte_of_the_manifest_can_change_unnoticed(folder: Path) -> None:
    content = (folder / "manifest.json").read_bytes()
    for place in range(0, len(content), 37):
        changed = content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
        if json.loads(content) == _json(changed):
            continue  # whitespace between the words
        (folder / "manifest.json").write_bytes(changed)
        assert refused(InputError, read_all, folder).startswith(f"{folder}: ")


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize("entry", ["logits/c/1/2/0", "row_max/c/0/0", "params/c/2/1/0", "zarr.json", "summary.json"])
def test_a_file_that_the_manifest_does_not_know_is_not_read(folder: Path, entry: str) -> None:
    """In particular, a missing chunk is not read as NaN."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[entry]
    write_json(folder / "manifest.json", manifest)
    text = refused(InputError, read_all, folder)
    assert text.startswith(f"{folder}: ")
    if "/c/" in entry:
        assert text == f"{folder}: {entry} is not in manifest.json; run cache-logits"
    (folder / entry).unlink()
    refused(InputError, read_all, folder)


def test_pixels_of_another_plan_are_refused_even_with_a_right_manifest(folder: Path, tmp_path: Path) -> None:
    """The attributes promise seed 8; the written parameters are seed 7's."""
    other = ViewPlan(LAYOUT.plan.recipe, 3, 8, 22).describe()
    writer = open_writer(tmp_path / "store", views=other)
    for view, chunk in writer.pending():
        writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
    writer.finish(LABELS)
    store = LogitStore.open(tmp_path / "store")
    text = refused(InputError, store.slab, 1)
    assert text == f"{tmp_path / 'store'}: params of view 1 differ from the plan's; run cache-logits again"


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "store", format=FORMAT + 1)
    for view, chunk in writer.pending():
        writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
    writer.finish(LABELS)
    assert refused(InputError, LogitStore.open, tmp_path / "store") == (
        f"{tmp_path / 'store'}: format is {FORMAT + 1}, this version of prepkd reads {FORMAT}; update prepkd"
    )


def test_files_that_nobody_listed_do_no_harm(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"?")
    (folder / "logits" / "c" / "notes.txt").write_text("?")
    read_all(folder)
    assert "notes" not in json.dumps(json.loads((folder / "manifest.json").read_text()))
    assert not any("notes" in key for key in manifest_of(LocalStore(folder), LAYOUT))

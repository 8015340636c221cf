"""Every damage in every file of every encoding is found and named, by the check and by the reader."""

import hashlib
import json
import shutil
from pathlib import Path

import corruption_table
import pytest
from commands import ROOT
from corruption_table import Outcome, table, write_store
from prepkd.errors import InputError
from prepkd.runtime.files import write_json
from prepkd.store.attributes import FORMAT
from prepkd.store.encodings.f16 import F16
from prepkd.store.integrity import Damage, damages
from prepkd.store.place import keys, open_place, put
from store_checks import refused
from store_writing import answer, contents, open_writer
from zarr.storage import LocalStore, MemoryStore

DOCS = ROOT / "docs/explanation/crash-safety.md"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    return corruption_table.outcomes(tmp_path_factory.mktemp("damaged"))


def test_every_array_of_every_encoding_is_damaged_in_every_way(outcomes: list[Outcome]) -> None:
    arrays = {
        "f16": ["logits", "params", "row_max"],
        "u8": ["logits", "params", "row_max", "step"],
        "i16": ["logits", "params", "row_max"],
        "topk": ["ids", "logits", "lse", "params", "row_max", "tail"],
        "sampled": ["fixed", "ids", "logits", "lse", "params", "row_max", "tail", "threshold"],
    }
    for encoding, names in arrays.items():
        for name in names:
            done = {one.mutation for one in outcomes if (one.encoding, one.file.split("/c/")[0]) == (encoding, name)}
            assert done == {"flipped", "truncated", "zero-length", "deleted", "swapped", "stale"}, (encoding, name)
            file = f"{name}/zarr.json"
            done = {one.mutation for one in outcomes if (one.encoding, one.file) == (encoding, file)}
            assert done == {"flipped", "truncated", "zero-length", "deleted", "edited"}, (encoding, name)


def test_what_is_damaged_is_named_and_nothing_else(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        if one.file != "manifest.json":
            assert one.named == one.damaged, one
        else:  # it is unknown which of the two was changed: the manifest, or the files that it lists
            assert one.named, one


def test_the_reader_refuses_and_names_a_file_that_is_damaged(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        if one.file != "manifest.json":
            assert any(f"/{file}" in one.refusal or f" {file}" in one.refusal for file in one.damaged), one
        else:
            assert one.refusal, one


def test_only_the_manifest_finds_all(outcomes: list[Outcome]) -> None:
    """A chunk's checksum does not say which chunk it is; the plan does so for `params` only."""
    chunks = [one for one in outcomes if "/c/" in one.file]
    assert all("M" in one.found_by for one in outcomes)
    for one in chunks:
        assert ("C" in one.found_by) == (one.mutation in ("flipped", "truncated", "zero-length")), one
        misplaced = one.mutation in ("swapped", "stale")
        assert ("P" in one.found_by) == (not misplaced or one.file.startswith("params/")), one


def test_the_documented_table_is_this_one(outcomes: list[Outcome]) -> None:
    text = DOCS.read_text()
    assert table(outcomes, chunks=True) in text
    assert table(outcomes, chunks=False) in text


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def test_a_sound_store_has_no_damage(folder: Path) -> None:
    assert damages(folder) == damages(str(folder)) == damages(LocalStore(folder, read_only=True)) == []
    (folder / ".DS_Store").write_bytes(b"?")
    assert damages(folder) == []


def test_what_is_said_of_each_damage(folder: Path) -> None:
    """All damages are reported at once: the first hides none of the others."""
    files = contents(folder)
    kept = {path: content for path, content in files.items() if "/c/" in path}
    (folder / "logits/c/0/0/0").unlink()
    (folder / "logits/c/0/1/0").write_bytes(b"")
    (folder / "logits/c/0/2/0").write_bytes(kept["logits/c/0/2/0"][:70])
    (folder / "params/c/1/0/0").write_bytes(kept["params/c/2/0/0"])
    flipped = corruption_table.flip(kept["row_max/c/1/1"])
    (folder / "row_max/c/1/1").write_bytes(flipped)
    (folder / "row_max/c/3").mkdir()
    (folder / "row_max/c/3/0").write_bytes(kept["row_max/c/2/0"])
    found = damages(folder)
    empty, cut = kept["logits/c/0/1/0"], kept["logits/c/0/2/0"]
    assert found[:-2] == [
        Damage("logits", "logits/c/0/0/0", "missing"),
        Damage(
            "logits",
            "logits/c/0/1/0",
            f"zero bytes with sha256 {sha(b'')}, the manifest says {sha(empty)}; it is 0 bytes, expected 84",
        ),
        Damage(
            "logits",
            "logits/c/0/2/0",
            f"70 bytes with sha256 {sha(cut[:70])}, the manifest says {sha(cut)}; it is 70 bytes, expected 84",
        ),
        Damage(
            "params",
            "params/c/1/0/0",
            "it holds the bytes of params/c/2/0/0; it differs from the plan's parameters of view 1",
        ),
    ]
    assert (found[-2].array, found[-2].chunk) == ("row_max", "row_max/c/1/1")
    listed = f"36 bytes with sha256 {sha(flipped)}, the manifest says {sha(kept['row_max/c/1/1'])}; "
    assert found[-2].problem.startswith(f"{listed}it does not decode: ")
    assert found[-1] == Damage("row_max", "row_max/c/3/0", "no file of this store: left by another one")


def test_edited_attributes_are_found_even_with_a_manifest_made_anew(folder: Path) -> None:
    text = (folder / "zarr.json").read_text()
    assert text.count('"model": "none"') == 1
    (folder / "zarr.json").write_text(text.replace('"model": "none"', '"model": "some"'))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["zarr.json"] = hashlib.sha256((folder / "zarr.json").read_bytes()).hexdigest()
    write_json(folder / "manifest.json", manifest)
    (damage,) = damages(folder)
    assert (damage.array, damage.chunk) == ("", "zarr.json")
    assert damage.problem.startswith("fingerprints.teacher is ") and "but the section's is" in damage.problem


def test_an_unfinished_store_lacks_its_manifest_and_what_was_not_written(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "work")
    for view, chunk in list(writer.pending())[:-1]:
        writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
    assert damages(tmp_path / "work") == [
        Damage("", "manifest.json", "missing: the store is unfinished, or lost it"),
        Damage("logits", "logits/c/2/2/0", "missing"),
        Damage("params", "params/c/2/2/0", "missing"),
        Damage("row_max", "row_max/c/2/2", "missing"),
        Damage("", "summary.json", "missing"),
    ]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xff", b"null", b"[]", b"{}", b"3", b'{"zarr.json": 3}'])
@pytest.mark.parametrize("file", ["manifest.json", "zarr.json", "logits/zarr.json", "summary.json"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_file_that_is_none_is_damage_and_no_traceback(folder: Path, file: str, content: bytes, listed: bool) -> None:
    (folder / file).write_bytes(content)
    if not listed and file != "manifest.json":
        (folder / "manifest.json").unlink()
    assert (file.partition("/")[0] if "/" in file else "", file) in {(one.array, one.chunk) for one in damages(folder)}


def test_a_chunk_of_fill_values_is_missing_values_whatever_the_manifest_says(folder: Path) -> None:
    writer = open_writer(folder)
    writer.group["row_max"][1, 3] = float("nan")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["row_max/c/1/0"] = hashlib.sha256((folder / "row_max/c/1/0").read_bytes()).hexdigest()
    write_json(folder / "manifest.json", manifest)
    assert damages(folder) == [
        Damage("row_max", "row_max/c/1/0", "1 of its values are the fill value, which means missing")
    ]


def test_a_copy_of_some_views_may_lack_whole_views_but_no_part_of_one(folder: Path) -> None:
    for name in ("logits", "params", "row_max"):
        shutil.rmtree(folder / name / "c" / "1")
    assert len(damages(folder)) == 9
    (folder / "partial.json").write_text("{}")
    assert damages(folder) == []
    (folder / "partial.json").write_text('{"views": [0, 1, 2]}')
    assert len(damages(folder)) == 9, "it says that view 1 was fetched"
    (folder / "partial.json").write_text('{"views": [0, 2]}')
    (folder / "row_max/c/2/1").unlink()
    assert damages(folder) == [Damage("row_max", "row_max/c/2/1", "missing")]


def test_a_newer_format_is_said(folder: Path) -> None:
    text = (folder / "zarr.json").read_text()
    (folder / "zarr.json").write_text(text.replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}'))
    (damage,) = damages(folder)
    assert damage.problem.endswith(f"format is {FORMAT + 1}, this version of prepkd reads {FORMAT}; update prepkd")


def test_elsewhere(folder: Path, tmp_path: Path) -> None:
    """The check works in memory as in a bucket, and says so if there is no store."""
    store = MemoryStore()
    for key, content in contents(folder).items():
        put(store, key, content)
    assert damages(store) == []
    put(store, "logits/c/2/1/0", b"torn")
    assert [(one.array, one.chunk) for one in damages(store)] == [("logits", "logits/c/2/1/0")]
    for place in (tmp_path / "none", f"memory://{tmp_path}/none", MemoryStore()):
        assert refused(InputError, damages, place) == f"{place}: no such store; run `prepkd cache-logits NAME`"
    assert keys(open_place(folder)) == set(contents(folder)), "looking leaves nothing behind"


def test_the_same_answers_give_the_same_store(tmp_path: Path) -> None:
    """Otherwise the table's swaps and stale chunks would differ by accident."""
    assert contents(write_store(tmp_path / "a", F16(5))) == contents(write_store(tmp_path / "b", F16(5)))

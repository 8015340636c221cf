"""A copy of some views: it can be read as far as it goes, and is refused for all other views."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import store_writing
from commands import enter
from hypothesis import given
from hypothesis import strategies as st
from prepkd.cli import app
from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.fetch import FetchResult, fetch, parse_views, views_text
from prepkd.store.place import open_place, put
from prepkd.views.order import cycle
from store_checks import Cut, Watched, fail, files, refused
from store_writing import ATTRIBUTES, LABELS, answer, contents
from zarr.abc.store import Store

DESCRIBED = ["zarr.json", "params/zarr.json", "row_max/zarr.json", "logits/zarr.json", "summary.json"]


def chunks_of(*views: int) -> list[str]:
    """Return the files of views, in the order in which a writer writes them."""
    tails = (("params", "/0"), ("row_max", ""), ("logits", "/0"))
    return [f"{name}/c/{view}/{chunk}{tail}" for view in views for chunk in range(3) for name, tail in tails]


def bring(source: str | Path, target: Store, *views: int) -> FetchResult:
    return fetch(LogitStore.open(source), target, views, "target", lambda: None)


@pytest.fixture
def bucket(root: str, made_up: Path) -> str:
    """Write a finished store in a place of each kind."""
    place = open_place(f"{root}/large.zarr", write=True)
    for key, content in contents(made_up).items():
        put(place, key, content)
    return f"{root}/large.zarr"


def test_some_views_then_others_then_all(bucket: str, made_up: Path, tmp_path: Path) -> None:
    target, whole = tmp_path / "copy" / "large.zarr", contents(made_up)
    fetched = bring(bucket, open_place(target, write=True), 0, 2)
    brought = [*DESCRIBED, *chunks_of(0, 2)]
    assert fetched == FetchResult("target", len(brought), sum(len(whole[key]) for key in brought), 0, [0, 2], 3)
    found = contents(target)
    assert json.loads(found.pop("partial.json")) == {"views": [0, 2]}
    assert found == {key: whole[key] for key in sorted([*brought, "manifest.json"])}
    store = LogitStore.open(target)
    assert store.present == [0, 2]
    for view in (0, 2):
        assert np.array_equal(store.slab(view)[0], answer(view, slice(0, 22))["logits"])
    text = refused(InputError, store.logits, 1)
    assert text == f"{target}: view 1 was not fetched; `prepkd fetch-views URL --select 1` brings it"
    assert np.array_equal(store.lookup(np.array([2, 0]), np.array([4, 21]))[1], store.logits(0)[21])
    refused(InputError, store.lookup, np.array([2, 1]), np.array([4, 21]))

    before = store_writing.identities(target)
    fetched = bring(bucket, open_place(target, write=True), 0, 1)
    assert fetched == FetchResult(
        "target", 9, sum(len(whole[key]) for key in chunks_of(1)), len(DESCRIBED) + 9, [0, 1, 2], 3
    )
    assert contents(target) == whole, "whole, and no longer marked as partial"
    assert before.items() <= store_writing.identities(target).items()


def test_to_anywhere(root: str, made_up: Path) -> None:
    target = f"{root}/copy.zarr"
    bring(made_up, open_place(target, write=True), 1)
    assert LogitStore.open(target).present == [1]
    assert set(files(target)) == {*DESCRIBED, *chunks_of(1), "partial.json", "manifest.json"}
    # The copy can be copied again, but only the views that it holds.
    text = refused(InputError, bring, target, open_place(f"{root}/second.zarr", write=True), 0, 1)
    assert text == f"{target}: view 0 is not there; it holds views 1"
    assert "no such store" in refused(InputError, LogitStore.open, f"{root}/second.zarr")
    bring(target, open_place(f"{root}/second.zarr", write=True), 1)
    assert files(f"{root}/second.zarr") == files(target)
    bring(made_up, open_place(target, write=True), 0, 2)
    assert files(target) == contents(made_up)


def test_the_manifest_comes_last_and_the_mark_before_it(made_up: Path, tmp_path: Path) -> None:
    target = Watched(open_place(tmp_path / "copy", write=True))
    bring(made_up, target, 1, 2)
    assert target.puts == [*DESCRIBED, *chunks_of(1, 2), "partial.json", "manifest.json"]


@pytest.mark.parametrize("puts", range(16))
def test_cut_off_before_each_file_and_resumed(made_up: Path, tmp_path: Path, puts: int) -> None:
    def before(key: str) -> None:
        if len(target.puts) == puts:
            raise Cut

    copy = tmp_path / "copy"
    target = Watched(open_place(copy, write=True), before)
    with pytest.raises(Cut):
        bring(made_up, target, 1)
    refused(InputError, LogitStore.open, copy)
    (copy / "row_max" / "c").mkdir(parents=True, exist_ok=True)
    (copy / "row_max" / "c" / f"2.{'1f' * 16}.partial").write_bytes(b"torn")
    again = Watched(open_place(copy, write=True))
    bring(made_up, again, 1)
    order = [*DESCRIBED, *chunks_of(1)]
    assert again.puts == [*order[puts:], "partial.json", "manifest.json"]
    whole = contents(made_up)
    found = {key: content for key, content in contents(copy).items() if not key.endswith(".partial")}
    assert found.pop("partial.json") == b'{\n  "views": [\n    1\n  ]\n}\n'
    assert found == {key: whole[key] for key in sorted([*order, "manifest.json"])}


@pytest.mark.parametrize("puts", range(9))
def test_cut_off_while_views_are_added(made_up: Path, tmp_path: Path, puts: int) -> None:
    """Existing views stay readable; a half-copied view counts as absent."""

    def before(key: str) -> None:
        if len(target.puts) == puts:
            raise Cut

    copy = tmp_path / "copy"
    bring(made_up, open_place(copy, write=True), 0)
    target = Watched(open_place(copy, write=True), before)
    with pytest.raises(Cut):
        bring(made_up, target, 2)
    store = LogitStore.open(copy)
    assert store.present == [0]
    assert np.array_equal(store.slab(0)[0], answer(0, slice(0, 22))["logits"])
    bring(made_up, open_place(copy, write=True), 1, 2)
    assert contents(copy) == contents(made_up)


def test_leftovers_of_a_killed_fetch_are_removed(made_up: Path, tmp_path: Path) -> None:
    left = tmp_path / "copy" / "logits" / "c" / "0" / "0" / f"0.{'1f' * 16}.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"torn")
    bring(made_up, open_place(tmp_path / "copy", write=True), 0, 1, 2)
    assert contents(tmp_path / "copy") == contents(made_up)


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:-1] + b"\xff"])
def test_a_damaged_copy_is_mended(made_up: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    copy = tmp_path / "copy"
    bring(made_up, open_place(copy, write=True), 0, 1, 2)
    for key in ("logits/c/1/0/0", "summary.json"):
        (copy / key).write_bytes(damage((copy / key).read_bytes()))
    (copy / "params/c/1/2/0").unlink()
    target = Watched(open_place(copy, write=True))
    assert bring(made_up, target, 1).files == 3
    assert target.puts == ["summary.json", "logits/c/1/0/0", "params/c/1/2/0"]
    assert contents(copy) == contents(made_up)


def test_a_damaged_source_is_refused_before_the_file_has_its_name(folder: Path, tmp_path: Path) -> None:
    path = folder / "row_max/c/1/1"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    text = refused(InputError, bring, folder, open_place(tmp_path / "copy", write=True), 1)
    assert text.startswith(f"{folder}: row_max/c/1/1: sha256 is ")
    found = contents(tmp_path / "copy")
    assert set(found) == {*DESCRIBED, *chunks_of(1)[:4]}
    bring(folder, open_place(tmp_path / "copy", write=True), 0, 2)
    assert LogitStore.open(tmp_path / "copy").present == [0, 2]


def test_places_of_something_else_are_refused(made_up: Path, tmp_path: Path) -> None:
    remedy = "choose another place with --to"
    other = tmp_path / "other"
    fingerprints = ATTRIBUTES.fingerprints | {"teacher": "0" * 64}
    writer = store_writing.open_writer(other, fingerprints=fingerprints)
    for view, chunk in writer.pending():
        writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
    for finish in (lambda: None, lambda: writer.finish(LABELS)):  # unfinished, then finished
        finish()
        before = contents(other)
        text = refused(InputError, bring, made_up, open_place(other, write=True), 0)
        expected = ATTRIBUTES.fingerprints["teacher"][:12]
        assert text == f"target: another store: fingerprints.teacher is 000000000000, expected {expected}; {remedy}"
        assert contents(other) == before

    letters = tmp_path / "letters"
    letters.mkdir()
    (letters / "to-mother.txt").write_text("dear")
    text = refused(InputError, bring, made_up, open_place(letters, write=True), 0)
    assert text == f"target: holds to-mother.txt, which is no part of a store that prepkd wrote; {remedy}"
    (letters / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    text = refused(InputError, bring, made_up, open_place(letters, write=True), 0)
    assert text == f"target: holds to-mother.txt, which is no part of a store that prepkd wrote; {remedy}"
    assert (letters / "to-mother.txt").read_text() == "dear" and len(contents(letters)) == 2


def test_a_store_of_equal_settings_and_other_bytes_is_refused(folder: Path, made_up: Path) -> None:
    """Another machine may differ in the last bits: chunks of both stores would make neither store."""
    listing = json.loads((folder / "manifest.json").read_text())
    listing["logits/c/0/0/0"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(listing))
    before = contents(folder)
    text = refused(InputError, bring, made_up, open_place(folder, write=True), 1)
    assert text.startswith(f"target: manifest.json is another one than that of {made_up}")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:8", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("8", [8]),
        ("0,4:6", [0, 4, 5]),
        ("4:6, 0", [0, 4, 5]),
        ("1:3,2:4", [1, 2, 3]),
    ],
)
def test_views_grammar(text: str, expected: list[int]) -> None:
    assert parse_views(text, 9) == expected


@pytest.mark.parametrize(
    "text", ["", ",", "a", "1:", ":3", "3:3", "3:2", "-1", "1:2:3", "0x1", "1.5", "0,,1", "1 2", "²"]
)
def test_malformed_views(text: str) -> None:
    expected = f"--select is {text!r}; expected a view, a range a:b, or several joined by commas: 0:8,12"
    assert refused(InputError, parse_views, text, 9) == expected


@pytest.mark.parametrize("text", ["9", "0:10", "0,9", "100:200"])
def test_views_out_of_range(text: str) -> None:
    assert refused(InputError, parse_views, text, 9) == f"--select is {text!r}; the store has 9 views, 0 to 8"


@given(st.sets(st.integers(0, 40), min_size=1))
def test_what_is_printed_can_be_given(views: set[int]) -> None:
    assert parse_views(views_text(sorted(views)), 41) == sorted(views)


def test_views_are_printed_short() -> None:
    assert views_text([0, 1, 2, 5, 7, 8]) == "0:3,5,7:9"
    assert views_text([]) == "none"


def test_the_command(
    s3: str, made_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(tmp_path, monkeypatch)
    url = f"{s3}/{tmp_path.name}/large.zarr"
    app(["fetch-views", str(made_up), "--to", url], standalone_mode=False)
    assert files(url) == contents(made_up)
    capsys.readouterr()

    app(["fetch-views", f"{url}/", "--select", "0:2"], standalone_mode=False)
    brought = sum(len(contents(made_up)[key]) for key in [*DESCRIBED, *chunks_of(0, 1)])
    text = capsys.readouterr().err
    assert re.search(r"^large: 23/23", text, re.M)
    last = "data/logits/large.zarr: {} files, {:,} bytes fetched, {} files were there; it holds views {} of 3"
    assert text.splitlines()[-1] == last.format(23, brought, 0, "0:2")
    assert LogitStore.open("data/logits/large.zarr").present == [0, 1]
    app(["fetch-views", url, "--select", "0:2"], standalone_mode=False)
    assert capsys.readouterr().err.splitlines()[-1] == last.format(0, 0, 23, "0:2")
    for views, message in (("0:4", "the store has 3 views, 0 to 2"), ("", "expected a view, a range a:b")):
        assert message in fail("fetch-views", url, "--select", views, capsys=capsys)
    assert "no such store" in fail("fetch-views", f"{s3}/nothing.zarr", capsys=capsys)
    assert "onto itself" in fail("fetch-views", "data/logits/large.zarr", capsys=capsys)
    (tmp_path / "file").write_text("x")
    expected = "file: expected a store, or nothing; found a file; move it away, or name another place"
    assert fail("fetch-views", url, "--to", "file", capsys=capsys) == expected
    app(["fetch-views", url], standalone_mode=False)
    assert contents(tmp_path / "data/logits/large.zarr") == contents(made_up)
    assert not list((tmp_path / "scratch").iterdir())


PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 10}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet4, epochs: 1, precision: float32}}
cache: {views: 4, batch_size: 32, chunk: 64}
distill: {teacher: large, student: convnet4, seeds: [3], epochs: 2, precision: float32}
compare: {runs: [kd]}
"""


def test_distillation_from_a_copy_of_the_views_that_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(tmp_path, monkeypatch)
    (tmp_path / "params.yaml").write_text(PARAMS)
    for arguments in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"], ["distill"]):
        app(arguments, standalone_mode=False)
    student = tmp_path / "models/student/seed3/model.safetensors"
    weights = student.read_bytes()
    student.unlink()
    (tmp_path / "data/logits/large.zarr").rename(tmp_path / "large.zarr")
    capsys.readouterr()

    shown = [cycle(3, epoch, 4, 0) for epoch in range(2)]
    others = sorted({0, 1, 2, 3} - set(shown))
    app(["fetch-views", "large.zarr", "--select", str(shown[0])], standalone_mode=False)
    capsys.readouterr()
    where = "data/logits/large.zarr"
    assert fail("distill", capsys=capsys) == (
        f"{where}: 1 of the 2 views that training shows were not fetched, view {shown[1]} first; "
        f"`prepkd fetch-views URL --select {shown[1]}` brings them"
    )
    app(["fetch-views", "large.zarr", "--select", str(shown[1])], standalone_mode=False)
    capsys.readouterr()
    assert not student.exists()
    # Another epoch, or views drawn at random, would need views that were not fetched.
    third = cycle(3, 2, 4, 0)
    assert f"1 of the 3 views that training shows were not fetched, view {third} first" in fail(
        "distill", "--epochs", "3", capsys=capsys
    )
    text = fail("distill", "-S", "distill.view_order=random", capsys=capsys)
    assert "2 of the 4 views that training shows were not fetched" in text
    assert f"`prepkd fetch-views URL --select {views_text(others)}` brings them" in text
    assert not student.exists()

    app(["distill"], standalone_mode=False)
    assert student.read_bytes() == weights
    app(["fetch-views", "large.zarr", "--select", views_text(others)], standalone_mode=False)
    assert contents(tmp_path / where) == contents(tmp_path / "large.zarr")
    app(["distill", "--replace", "-S", "distill.view_order=random"], standalone_mode=False)
    assert student.read_bytes() != weights

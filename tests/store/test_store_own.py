"""Only a store that prepkd wrote may be replaced, checked key by key."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prepkd.errors import InputError
from prepkd.runtime.files import fingerprint
from prepkd.store import LogitStore
from prepkd.store.encodings import ENCODINGS
from prepkd.store.ownership import clear_store, publishing, refuse_foreign_store, refuse_replacing, store_key_patterns
from prepkd.store.place import delete, keys, open_place, put
from prepkd.store.writer import StoreWriter
from prepkd.views import ViewPlan
from store_checks import files, refused
from store_writing import ATTRIBUTES, LABELS, LAYOUT, answer, attributes, contents, write, writing
from zarr.storage import MemoryStore

NO_PART = "which is no part of a store that prepkd wrote; move it away, or name another place"


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a folder, and this process's memory; a bucket is left out, as each kept file takes a request."""
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


@pytest.fixture
def finished(root: str, made_up: Path) -> str:
    """Write a finished store."""
    url = f"{root}/large.zarr"
    for key, content in contents(made_up).items():
        put(open_place(url, write=True), key, content)
    return url


def test_keys_of_every_encoding_are_known() -> None:
    from prepkd.store.layout import Layout

    for encoding in ENCODINGS.values():
        layout = Layout(ViewPlan([{"crop": {"padding": 1}}], 2, 0, 20), encoding(64), 8)
        for key in [*layout.all_keys(), "manifest.json", "summary.json", "partial.json"]:
            assert store_key_patterns()[0].fullmatch(key) and store_key_patterns()[0].fullmatch(
                f"{key}.{'0' * 32}.partial"
            ), key


@pytest.mark.parametrize(
    "key", ["notes.txt", "logits/notes.txt", "logits/c/0/0/0.bak", "mine/zarr.json", "mine/c/0", "a.partial", "c/0/0"]
)
def test_a_place_with_anything_else_is_refused_and_stays(finished: str, key: str) -> None:
    put(open_place(finished, write=True), key, b"x")
    before = files(finished)
    assert refused(InputError, refuse_foreign_store, finished).endswith(NO_PART)
    assert refused(InputError, clear_store, open_place(finished, write=True), finished).endswith(NO_PART)
    assert files(finished) == before and key in before


@pytest.mark.parametrize("content", [b"{}", b'{"attributes": {"prepkd": 1}}', b"[]", b"mine", b'{"attributes": null}'])
def test_another_zarr_group_is_not_ours(root: str, content: bytes) -> None:
    url = f"{root}/large.zarr"
    put(open_place(url, write=True), "logits/c/0/0/0", b"x")
    assert NO_PART in refused(InputError, refuse_foreign_store, url)
    put(open_place(url, write=True), "zarr.json", content)
    assert NO_PART in refused(InputError, refuse_foreign_store, url)


@pytest.mark.parametrize("damage", [lambda text: text[:200], lambda text: b"", lambda text: b"\0" * len(text), None])
def test_a_store_whose_description_is_damaged_is_known_still(
    finished: str, damage: Callable[[bytes], bytes] | None
) -> None:
    place = open_place(finished, write=True)
    if damage:
        put(place, "zarr.json", damage(files(finished)["zarr.json"]))
    refuse_foreign_store(finished)
    refuse_replacing(finished, attributes(LAYOUT))
    clear_store(place, finished)
    assert keys(place) == set()


def test_the_neighbours_of_a_store_stay(finished: str) -> None:
    for name in ("large.zarr.old", "large"):
        put(open_place(f"{finished.removesuffix('large.zarr')}{name}", write=True), "logits/c/0/0/0", b"x")
    clear_store(open_place(finished, write=True), finished)
    clear_store(open_place(finished, write=True), finished)  # a second time there is nothing to remove
    root = finished.removesuffix("/large.zarr")
    assert keys(open_place(root)) == {"large.zarr.old/logits/c/0/0/0", "large/logits/c/0/0/0"}


def test_in_a_bucket(s3: str, made_up: Path, tmp_path: Path) -> None:
    root = f"{s3}/{tmp_path.name}"
    theirs = {"notes.txt": b"x", "large.zarr.old/logits/c/0/0/0": b"y"}
    for key, content in {**theirs, **{f"large.zarr/{key}": one for key, one in contents(made_up).items()}}.items():
        put(open_place(root, write=True), key, content)
    for url in (root, s3, f"{root}/notes.txt"):
        assert NO_PART in refused(InputError, refuse_foreign_store, url)
        assert NO_PART in refused(InputError, clear_store, open_place(url, write=True), url)
    refuse_foreign_store(f"{root}/large.zarr")
    refuse_foreign_store(f"{root}/nothing.zarr")
    clear_store(open_place(f"{root}/large.zarr", write=True), root)
    assert files(root) == theirs


def test_a_store_is_cleared_so_that_what_a_kill_leaves_is_known_and_unreadable(made_up: Path) -> None:
    removed: list[str] = []

    class Watched(MemoryStore):
        async def delete(self, key: str) -> None:
            removed.append(key)
            await super().delete(key)

    place = Watched()
    for key, content in contents(made_up).items():
        put(place, key, content)
    clear_store(place, "memory")
    assert (removed[0], removed[-1], len(removed)) == ("manifest.json", "zarr.json", 33)


@pytest.mark.parametrize("strange", ["pipe", "link", "folder link", "file", "device"])
def test_what_is_no_folder_or_no_file_is_refused(folder: Path, tmp_path: Path, strange: str) -> None:
    url = str(folder)
    if strange == "pipe":
        (folder / "row_max/c/0/0").unlink()
        os.mkfifo(folder / "row_max/c/0/0")
    elif strange == "link":
        (folder / "row_max/c/0/0").unlink()
        (folder / "row_max/c/0/0").symlink_to("/dev/null")
    elif strange == "folder link":
        (folder / "row_max/c/7").symlink_to(tmp_path)
    else:
        url = str(folder / "zarr.json") if strange == "file" else "/dev/null"
    assert "move it away, or name another place" in refused(InputError, refuse_foreign_store, url)


def test_what_comes_to_the_place_while_the_store_is_written_stays(root: str, tmp_path: Path) -> None:
    """The foreign file is found before the store moves there; the work is kept, and moves once the place is free."""
    url, theirs = f"{root}/large.zarr", "notes.txt"
    if "://" in url:
        pytest.skip("a store grows at its URL")
    scratch = tmp_path / "scratch"
    with (
        pytest.raises(InputError, match=NO_PART),
        writing(url, scratch) as writer,
    ):
        for view, chunk in list(writer.pending()):
            writer.write(view, chunk, answer(view, LAYOUT.slice(chunk)))
        writer.finish(LABELS)
        put(open_place(url, write=True), theirs, b"years of work")
    assert files(url) == {theirs: b"years of work"}
    Path(url, theirs).rename(tmp_path / theirs)
    with writing(url, scratch) as writer:
        assert list(writer.pending()) == []
        writer.finish(LABELS)
    assert LogitStore.open(url).views == 3


def test_of_two_projects_stores_for_one_place_the_later_one_is_refused(tmp_path: Path, made_up: Path) -> None:
    url, lines = str(tmp_path / "shared" / "large.zarr"), []
    changed = ATTRIBUTES.fingerprints | {"teacher": fingerprint("another")}
    other = ATTRIBUTES.model_validate(ATTRIBUTES.model_dump() | {"fingerprints": changed})

    def work(writer: StoreWriter) -> None:
        for view, chunk in list(writer.pending()):
            writer.write(view, chunk, answer(view, LAYOUT.slice(chunk)))
        writer.finish(LABELS)

    def waits(line: str) -> None:
        lines.append(line)
        goes_on.set()

    goes_on, held = threading.Event(), threading.Event()
    with (
        pytest.raises(InputError, match=r"holds another store, .* --replace replaces it"),
        writing(url, tmp_path / "second", attributes=other) as second,
    ):
        with writing(url, tmp_path / "first") as first:
            work(first)
        work(second)
    assert contents(Path(url)) == contents(made_up) and list((tmp_path / "shared").iterdir()) == [Path(url)]
    assert next((tmp_path / "second").glob("*/store.zarr/manifest.json"))

    # A fetch by any project to the same place holds the same lock.
    def fetching() -> None:
        with publishing(Path(url), print):
            held.set()
            goes_on.wait(60)

    with writing(url, tmp_path / "second", attributes=other, on_wait=waits, replace=True) as second:
        work(second)
        thread = threading.Thread(target=fetching)
        thread.start()
        assert held.wait(60)
    thread.join(60)
    assert lines == [f"{url}: another process is writing there; waiting for it to end"]


@pytest.mark.parametrize("state", ["finished", "unfinished", "damaged"])
def test_no_store_is_written_inside_another_or_over_a_folder_of_them(finished: str, state: str) -> None:
    place = open_place(finished, write=True)
    if state != "finished":
        delete(place, "manifest.json")
    if state == "damaged":
        put(place, "zarr.json", b'{"attributes": {"prepkd"')
    before = files(finished)
    for inner in ("x.zarr", "a/b/x.zarr/"):
        said = refused(InputError, refuse_foreign_store, f"{finished}/{inner}")
        assert said.startswith(f"{finished}/{inner}: is inside a store, {finished}, which it would make unusable")
    assert files(finished) == before
    outer = finished.rpartition("/")[0]
    said = refused(InputError, refuse_foreign_store, outer)
    assert said.startswith(f"{outer}: holds large.zarr") and said.endswith(NO_PART)
    refuse_foreign_store(f"{outer}/other.zarr")


def damage(growing: Path, file: str, change: str) -> None:
    path = growing / file
    if change == "gone":
        path.unlink()
    elif change in ("folder", "pipe"):
        path.unlink()
        (os.mkfifo if change == "pipe" else os.mkdir)(path)
    elif change in ("[]", "{}", "[1]", "", "[" * 100_000):
        path.write_text(change)
    else:  # flip a bit of one letter
        text = path.read_bytes()
        place = text.index(change.encode()) + len(change) // 2
        path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])


DAMAGE = [(file, change) for file in ("zarr.json", "params/zarr.json", "row_max/zarr.json") for change in (
    "gone", "folder", "pipe", "[]", "{}", "[1]", "", "[" * 100_000, "node_type")]  # fmt: skip
DAMAGE += [("zarr.json", one) for one in ("prepkd", "fingerprints", "seed", "views", "weights_fingerprint", "format")]
DAMAGE += [("logits/zarr.json", one) for one in ("codecs", "crc32c", "NaN", "little", "float16", "chunk_shape")]


@pytest.mark.parametrize(("file", "change"), DAMAGE, ids=lambda value: value[:12])
def test_a_store_in_scratch_whose_description_is_damaged_ends_sound(
    tmp_path: Path, made_up: Path, capsys: pytest.CaptureFixture[str], file: str, change: str
) -> None:
    url, scratch = str(tmp_path / "large.zarr"), tmp_path / "scratch"
    with (
        pytest.raises(KeyboardInterrupt),
        writing(url, scratch) as writer,
    ):
        for view, chunk in list(writer.pending())[:4]:
            writer.write(view, chunk, answer(view, LAYOUT.slice(chunk)))
        raise KeyboardInterrupt
    damage(next(scratch.glob("*/store.zarr")), file, change)
    with writing(url, scratch) as writer:
        pending = list(writer.pending())
        for view, chunk in pending:
            writer.write(view, chunk, answer(view, LAYOUT.slice(chunk)))
        writer.finish(LABELS)
    assert contents(Path(url)) == contents(made_up)
    lines = capsys.readouterr().out.splitlines()
    aside = change in ("folder", "pipe")
    assert len(lines) == (change != "gone") and (not lines or file in lines[0] or aside)
    assert (len(pending) == 9) is aside, "what was finished is kept"
    assert not list(scratch.iterdir())


def test_a_store_of_other_attributes_is_replaced_only_as_asked(finished: str, tmp_path: Path) -> None:
    before = files(finished)
    changed = ATTRIBUTES.fingerprints | {"teacher": fingerprint("another")}
    other = ATTRIBUTES.model_validate(ATTRIBUTES.model_dump() | {"fingerprints": changed})
    said = refused(InputError, refuse_replacing, finished, other)
    assert said == (
        f"{finished}: holds another store, of teacher 'large', 3 views, f16 (different: teacher); --replace replaces it"
    )
    with (
        pytest.raises(InputError, match="--replace"),
        writing(finished, tmp_path / "s", attributes=other),
    ):
        raise AssertionError
    assert files(finished) == before
    with writing(finished, tmp_path / "s", attributes=other, replace=True) as writer:
        for view, chunk in list(writer.pending()):
            writer.write(view, chunk, answer(view, LAYOUT.slice(chunk)))
        writer.finish(LABELS)
    assert json.loads(files(finished)["zarr.json"])["attributes"]["prepkd"]["fingerprints"] == changed


def test_a_store_of_another_format_is_replaced_only_as_asked(folder: Path) -> None:
    described = json.loads((folder / "zarr.json").read_bytes())
    described["attributes"]["prepkd"] = {"format": 1}
    (folder / "zarr.json").write_text(json.dumps(described))
    said = refused(InputError, refuse_replacing, str(folder), ATTRIBUTES)
    assert said == f"{folder}: holds a store of another format; --replace replaces it"


def test_nothing_but_ones_own_leftovers_is_removed_when_a_store_is_finished(tmp_path: Path) -> None:
    write(tmp_path / "work")
    own, theirs = (tmp_path / "work" / name for name in (f"logits/c/0/0/0.{'1f' * 16}.partial", "thesis.partial"))
    for path in (own, theirs):
        path.write_bytes(b"x")
    write(tmp_path / "work")
    assert theirs.exists() and not own.exists()

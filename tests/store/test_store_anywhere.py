"""The same store in a folder, in memory and in a bucket: the same bytes, the same commit rule, and one-line refusals."""

import functools
import http.server
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import preloaded
import pytest
from commands import enter
from prepkd.cli import app
from prepkd.errors import InputError
from prepkd.runtime.files import fingerprint
from prepkd.store import LogitStore
from prepkd.store.attributes import Attributes
from prepkd.store.place import delete, exists, get, keys, open_place, put
from prepkd.store.writer import StoreWriter
from store_checks import Cut, Watched, fail, files, refused
from store_writing import ATTRIBUTES, LABELS, LAYOUT, answer, contents, raw, writing
from zarr.abc.store import Store
from zarr.core.buffer import Buffer
from zarr.storage import WrapperStore

ORDER = [
    f"{name}/c/{view}/{chunk}{tail}"
    for view in range(3)
    for chunk in range(3)
    for name, tail in (("params", "/0"), ("row_max", ""), ("logits", "/0"))
]


def write(store: Store, where: str, **changes: Any) -> None:
    writer = StoreWriter(store, LAYOUT, Attributes.model_validate(ATTRIBUTES.model_dump() | changes), where)
    for view, chunk in list(writer.pending()):
        writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
    writer.finish(LABELS)


@pytest.fixture
def url(root: str) -> str:
    return f"{root}/large.zarr"


@pytest.fixture
def finished(url: str, made_up: Path) -> str:
    """Write a finished store, file by file."""
    place = open_place(url, write=True)
    for key, content in contents(made_up).items():
        put(place, key, content)
    return url


def test_a_reader_gets_what_was_answered(finished: str) -> None:
    store = LogitStore.open(finished)
    assert store.present == [0, 1, 2]
    for view in range(3):
        assert np.array_equal(store.slab(view)[0], answer(view, slice(0, 22))["logits"])
        assert np.allclose(store.logits(view), raw(view, slice(0, 22)), atol=1e-2)
    found = store.lookup(np.array([2, 0, 2]), np.array([21, 3, 8]))
    assert np.array_equal(found, np.stack([store.logits(2)[21], store.logits(0)[3], store.logits(2)[8]]))


def test_a_zarr_store_is_opened_as_well(finished: str) -> None:
    opened = LogitStore.open(open_place(finished))
    assert np.array_equal(opened.logits(1), LogitStore.open(finished).logits(1))


def test_files_appear_in_the_order_of_the_commit_rule(url: str, made_up: Path) -> None:
    store = Watched(open_place(url, write=True))
    write(store, url)
    assert store.puts[0] == "zarr.json"
    assert sorted(store.puts[1:4]) == ["logits/zarr.json", "params/zarr.json", "row_max/zarr.json"]
    assert store.puts[4:] == [*ORDER, "summary.json", "manifest.json"]
    assert files(url) == contents(made_up), "the bytes are those of a local store"


def test_no_beginning_of_a_store_is_taken_for_one(url: str, made_up: Path) -> None:
    """A reader opens the store before each file is put, first to last; without rename it sees every partial state."""
    seen = []
    place = open_place(url, write=True)
    for key in ["zarr.json", *(f"{name}/zarr.json" for name in LAYOUT.fields), *ORDER, "summary.json", "manifest.json"]:
        seen.append(refused(InputError, LogitStore.open, url))
        put(place, key, (made_up / key).read_bytes())
    assert seen[0] == f"{url}: no such store; run `prepkd cache-logits NAME`"
    assert set(seen[1:]) == {
        f"{url}: no manifest.json, so there is no finished store; run `prepkd cache-logits NAME` again"
    }
    assert len(seen) == 33
    assert LogitStore.open(url).views == 3


@pytest.mark.parametrize("puts", [1, 4, 6, 7, 20, 32])
def test_cut_off_and_resumed(url: str, made_up: Path, puts: int) -> None:
    def before(key: str) -> None:
        if len(store.puts) == puts:
            raise Cut

    store = Watched(open_place(url, write=True), before)
    with pytest.raises(Cut):
        write(store, url)
    refused(InputError, LogitStore.open, url)
    finished_chunks = [key for key in store.puts if key.startswith("logits/c/")]
    again = Watched(open_place(url, write=True))
    write(again, url)
    assert files(url) == contents(made_up)
    # Finished chunks are not written again, and all others are.
    assert [key for key in again.puts if "/c/" in key] == ORDER[3 * len(finished_chunks) :]


def test_listings_are_not_remembered(s3: str, tmp_path: Path) -> None:
    """Another client writes and removes files while this one lists them."""
    url = f"{s3}/{tmp_path.name}/large.zarr"
    here, there = open_place(url), open_place(url, write=True, default_block_size=2**20)
    for n in range(3):
        put(there, f"logits/c/{n}", b"x")
        assert keys(here) == {f"logits/c/{k}" for k in range(n + 1)}
        assert exists(here, f"logits/c/{n}") and not exists(here, f"logits/c/{n + 1}")
    delete(there, "logits/c/1")
    assert not exists(here, "logits/c/1")
    assert keys(here) == {"logits/c/0", "logits/c/2"}


def test_reading_from_a_web_server_that_lists_its_folders(made_up: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    serve = functools.partial(Quiet, directory=str(made_up.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        where = f"http://127.0.0.1:{server.server_port}"
        try:
            store = LogitStore.open(f"{where}/{made_up.name}")
            assert np.array_equal(store.logits(2), LogitStore.open(made_up).logits(2))
            text = refused(InputError, LogitStore.open, f"{where}/nothing.zarr")
            assert text == f"{where}/nothing.zarr: no such store; run `prepkd cache-logits NAME`"
        finally:
            server.shutdown()
            thread.join()


def flip(content: bytes) -> bytes:
    return content[:3] + bytes([content[3] ^ 16]) + content[4:]


@pytest.mark.parametrize(
    ("key", "damage"),
    [
        ("logits/c/1/2/0", flip),
        ("row_max/c/1/2", lambda content: content[:-4]),
        ("params/c/1/2/0", lambda content: b""),
    ],
    ids=["flip", "cut", "empty"],
)
def test_damage_is_found_and_mended(finished: str, made_up: Path, key: str, damage: Callable[[bytes], bytes]) -> None:
    place = open_place(finished, write=True)
    put(place, key, damage((made_up / key).read_bytes()))
    store = LogitStore.open(finished)
    store.logits(0)
    text = refused(InputError, store.logits, 1)
    assert re.match(rf"{re.escape(f'{finished}: {key}: sha256 is ')}\w{{12}}, the manifest says \w{{12}}; ", text)
    watched = Watched(place)
    write(watched, finished)
    assert watched.puts == [*ORDER[15:18], "summary.json", "manifest.json"]
    assert files(finished) == contents(made_up)


def test_a_deleted_chunk_and_swapped_chunks_are_found(finished: str) -> None:
    place = open_place(finished, write=True)
    one, other = (get(place, f"logits/c/{view}/0/0") or b"" for view in (0, 1))
    put(place, "logits/c/0/0/0", other)
    put(place, "logits/c/1/0/0", one)
    assert "logits/c/0/0/0: sha256 is" in refused(InputError, LogitStore.open(finished).logits, 0)
    delete(place, "row_max/c/2/1")
    assert f"{finished}: row_max/c/2/1 is missing" in refused(InputError, LogitStore.open, finished)


OTHER = {"teacher": fingerprint({"name": "large", "weights_fingerprint": "0" * 64})}


def test_a_place_of_another_store_is_not_written_into(finished: str, made_up: Path) -> None:
    place = open_place(finished, write=True)
    text = refused(InputError, write, place, finished, fingerprints=ATTRIBUTES.fingerprints | OTHER)
    assert text == f"{finished}: holds another store's chunks; remove it and run again"
    assert files(finished) == contents(made_up)


@pytest.fixture(params=["memory", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    where = "memory:/" if request.param == "memory" else request.getfixturevalue("s3")
    return f"{where}/{tmp_path.name}/large.zarr"


@pytest.mark.parametrize("stopped_after", [None, 5])
def test_a_finished_store_of_other_settings_is_replaced(
    remote: str, made_up: Path, tmp_path: Path, stopped_after: int | None
) -> None:
    place: dict[str, Any] = {"scratch": tmp_path / "scratch", "replace": True}
    fingerprints = ATTRIBUTES.fingerprints | OTHER
    write(open_place(remote, write=True), remote, fingerprints=fingerprints)
    assert LogitStore.open(remote).attributes.fingerprints == fingerprints

    if stopped_after is not None:
        with pytest.raises(Cut), writing(remote, **place) as writer:
            for view, chunk in list(writer.pending())[:stopped_after]:
                writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
            raise Cut
        assert "no manifest.json" in refused(InputError, LogitStore.open, remote)
    with writing(remote, **place) as writer:
        assert "no manifest.json" in refused(InputError, LogitStore.open, remote)
        pending = list(writer.pending())
        assert len(pending) == 9 - (stopped_after or 0)
        for view, chunk in pending:
            writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
        writer.finish(LABELS)
    assert files(remote) == contents(made_up)


MEND = "; check URL, network and credentials (docs/how-to/sharing.md)"


def test_no_such_bucket(s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = "s3://no-such-bucket/large.zarr"
    expected = f"{url}: The specified bucket does not exist{MEND}"
    assert fail("fetch-views", url, capsys=capsys) == expected
    assert refused(InputError, write, open_place(url, write=True), url) == expected


def test_no_credentials(s3: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    url = f"{s3}/large.zarr"
    expected = f"{url}: Unable to locate credentials{MEND}"
    fresh = {"skip_instance_cache": True}  # an open connection keeps its credentials
    assert refused(InputError, LogitStore.open, url, **fresh) == expected
    assert refused(InputError, write, open_place(url, write=True, **fresh), url) == expected


def test_no_server(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    url, nobody = f"{s3}/large.zarr", {"endpoint_url": "http://127.0.0.1:9"}
    expected = f'{url}: Could not connect to the endpoint URL: "http://127.0.0.1:9/bucket/large.zarr'
    for text in (
        refused(InputError, LogitStore.open, url, **nobody),
        refused(InputError, write, open_place(url, write=True, **nobody), url),
    ):
        assert text.startswith(expected) and text.endswith(f'"{MEND}')


def test_a_server_that_goes_away_is_no_damaged_chunk(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that can't be read because the network fails must not be called unfinished."""

    class Away(WrapperStore[Store]):
        async def get(self, *arguments: Any, **named: Any) -> Buffer | None:
            raise InputError("the network is down")

    write(open_place(url, write=True), url)
    writer = StoreWriter(open_place(url, write=True), LAYOUT, ATTRIBUTES, url)
    monkeypatch.setattr(type(writer.store), "get", Away.get)
    assert refused(InputError, writer.finish, LABELS) == "the network is down"
    assert refused(InputError, writer.done, 0, 0) == "the network is down"


def test_an_unknown_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    url, expected = "s4://bucket/large.zarr", "s4://bucket/large.zarr: cannot be opened: Protocol not known: s4"
    assert fail("fetch-views", url, capsys=capsys) == expected
    assert refused(InputError, open_place, url, write=True) == expected


def test_a_file_url_is_read_and_not_written(folder: Path) -> None:
    """fsspec would write the files in place, and a crash would leave a torn file."""
    assert LogitStore.open(folder.as_uri()).logits(0).shape == (22, 5)
    text = refused(InputError, open_place, folder.as_uri(), write=True)
    assert text == f"{folder.as_uri()}: name a local store by its path, without file://"


def test_s3fs_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from fsspec.registry import _registry  # classes imported earlier

    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    text = fail("fetch-views", "s3://bucket/large.zarr", capsys=capsys)
    assert text == "s3://bucket/large.zarr: cannot be opened: Install s3fs to access S3"


PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 10}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet4, epochs: 1, precision: float32}}
cache: {views: 3, batch_size: 16, chunk: 32}
distill: {teacher: large, student: convnet4, seeds: 1, epochs: 3, precision: float32}
compare: {runs: [kd]}
"""


def prepkd(*arguments: str, code: int = 0) -> str:
    """Run a command as a shell would, with warnings as errors; return its output, which must not mention open connections."""
    command = [preloaded.commands() / "python", "-W", "error", "-c", "from prepkd.cli import main; main()", *arguments]
    done = subprocess.run(command, text=True, stdout=-1, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode == code, done.stdout
    assert not re.search(r"Traceback|unclosed|Unclosed|never awaited|Warning", done.stdout), done.stdout
    return done.stdout


def test_the_real_commands_on_a_bucket(
    s3: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    enter(tmp_path, monkeypatch)
    (tmp_path / "params.yaml").write_text(PARAMS)
    caplog.set_level(logging.INFO, "werkzeug")  # the server's log of requests

    def requests(method: str) -> list[str]:
        found = re.findall(rf'"{method} /bucket/{tmp_path.name}/large.zarr/(\S+) HTTP', caplog.text)
        caplog.clear()
        return found

    bucket = ("-S", f"cache.root={s3}/{tmp_path.name}/")
    for arguments in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"]):
        app(arguments, standalone_mode=False)
    capsys.readouterr()
    text = fail("distill", *bucket, capsys=capsys)
    assert text == f"{s3}/{tmp_path.name}/large.zarr: no such store; run `prepkd cache-logits large`"
    requests("PUT")
    text = prepkd("cache-logits", "large", *bucket)
    assert f"{s3}/{tmp_path.name}/large.zarr: 12 chunks written in" in text
    puts = requests("PUT")
    claims = [key for key in puts if key.startswith("claims/")]
    assert len(claims) == 2 + 12 + 1, "of the trial, of each chunk, of the end"
    puts = [key for key in puts if key not in claims]
    assert puts[0] == "zarr.json" and puts[-2:] == ["summary.json", "manifest.json"]
    assert [key for key in puts if key.startswith("logits/c/")] == puts[6:-2:3] and len(puts) == 4 + 36 + 2
    assert files(f"{s3}/{tmp_path.name}/large.zarr") == contents(tmp_path / "data/logits/large.zarr")
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(
        b"SECRETPW" in content for content in [*written, *files(f"{s3}/{tmp_path.name}/large.zarr").values()]
    )
    assert not (tmp_path / "scratch").exists() or not list((tmp_path / "scratch").iterdir())

    app(["cache-logits", "large", *bucket], standalone_mode=False)
    assert "already finished" in capsys.readouterr().err
    assert requests("PUT") == []
    # Without its commit record a chunk is unfinished: it is written again, and no other chunk is.
    place = open_place(f"{s3}/{tmp_path.name}/large.zarr", write=True)
    for key in ("logits/c/1/2/0", "manifest.json"):
        delete(place, key)
    app(["cache-logits", "large", *bucket], standalone_mode=False)
    again = ["params/c/1/2/0", "row_max/c/1/2", "logits/c/1/2/0", "summary.json", "manifest.json"]
    assert [key for key in requests("PUT") if not key.startswith("claims/")] == again
    assert files(f"{s3}/{tmp_path.name}/large.zarr") == contents(tmp_path / "data/logits/large.zarr")

    prepkd("distill", *bucket)
    weights = (tmp_path / "models/student/seed0/model.safetensors").read_bytes()
    app(["distill"], standalone_mode=False)
    assert (tmp_path / "models/student/seed0/model.safetensors").read_bytes() == weights
    capsys.readouterr()
    text = fail("cache-logits", "large", "-S", "cache.root=s3://no-such-bucket/logits", capsys=capsys)
    assert text == f"s3://no-such-bucket/logits/large.zarr: The specified bucket does not exist{MEND}"

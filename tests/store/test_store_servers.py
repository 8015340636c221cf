"""Broken, slow or hostile web servers: one line, bounded time and memory; no server's listing is trusted."""

import contextlib
import http.server
import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepkd.errors import InputError
from prepkd.inspection.store_facts import read_facts
from prepkd.runtime.files import sha256
from prepkd.store import LogitStore, remote
from prepkd.store.integrity import damages
from prepkd.store.place import can_list, get, open_place
from store_checks import fail, refused
from store_writing import contents

Answer = Callable[["Handler"], None]
PAGE = b"<!DOCTYPE html>\n<html><a href='/other/'>other</a> <a href='../../'>up</a> <a href='a/'>a</a></html>"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the store's files, unless the server's `answers` override them."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        key = self.path.removeprefix("/large.zarr/")
        self.server.asked[self.path] += 1
        with contextlib.suppress(ConnectionError):  # the reader may close the connection early
            answer = self.server.answers.get(key) or self.server.answers.get("*")
            if answer:
                answer(self)
            elif key in self.server.files:
                self.send(200, self.server.files[key])
            else:
                self.send(404, b"no such file")

    def send(self, status: int, content: bytes, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)
        if length is not None:
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    """A web server with one store, at `url`; `asked` counts requests by path."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.answers = files, dict[str, Answer]()
        self.asked, self.over = Counter[str](), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/large.zarr"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture
def server(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "DELAYS", (0.0, 0.0))
    with Server(contents(made_up)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def status(code: int) -> Answer:
    return lambda handler: handler.send(code, b"no")


def page(handler: Handler) -> None:
    handler.send(200, PAGE)


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.over.is_set():
        handler.wfile.write(b" " * 2**16)


def silent(handler: Handler) -> None:
    handler.server.over.wait(60)


def trickle(handler: Handler) -> None:
    """Send one byte, then wait for a long time."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.server.over.wait(60)


def cut(handler: Handler) -> None:
    handler.send(200, b"{", length=1000)


def read(url: str) -> None:
    store = LogitStore.open(url)
    for view in range(store.views):
        store.logits(view)


def test_a_store_is_read_without_a_listing(server: Server, made_up: Path, tmp_path: Path) -> None:
    """Each file is requested once, and no directory page is."""
    assert not can_list(open_place(server.url))
    store, here = LogitStore.open(server.url), LogitStore.open(made_up)
    for view in range(3):
        assert np.array_equal(store.logits(view), here.logits(view))
    assert store.manifest_sha256 == here.manifest_sha256 == sha256(server.files["manifest.json"])
    twice = {path: count for path, count in server.asked.items() if count > 1}
    assert twice == {"/large.zarr/logits/zarr.json": 2}  # for the chunks' length, and to check the layout
    names = {f"/large.zarr/{key}" for key in server.files}
    assert server.asked.keys() - names == {"/large.zarr/partial.json"}
    assert damages(server.url) == []
    facts, _ = read_facts(server.url)
    assert facts.finished and facts.bytes is None and facts.files == len(server.files) and facts.chunks.there == 9


def test_a_partial_copy_names_its_views(server: Server) -> None:
    server.files["partial.json"] = b'{"views": [0, 2]}'
    for key in [key for key in server.files if "/c/1/" in key]:
        del server.files[key]
    store = LogitStore.open(server.url)
    assert store.present == [0, 2]
    store.logits(2)
    assert "view 1 was not fetched" in refused(InputError, store.logits, 1)
    assert damages(server.url) == []
    assert read_facts(server.url)[0].views_there == [0, 2]


MEND = "; check URL, network and credentials (docs/how-to/sharing.md)"


@pytest.mark.parametrize(("code", "words"), [(403, "Forbidden"), (401, "Unauthorized"), (500, "Internal Server Error")])
@pytest.mark.parametrize("which", ["*", "manifest.json"])
@pytest.mark.parametrize("command", [["inspect"], ["verify", "--integrity"], ["fetch-views", "--to", "copy"]])
def test_a_refusal_is_no_missing_store(
    server: Server,
    code: int,
    words: str,
    which: str,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    server.answers[which] = status(code)
    text = fail(command[0], server.url, *command[1:], capsys=capsys)
    assert text == f"{server.url}: manifest.json: the server answers {code} {words}{MEND}"
    assert server.asked["/large.zarr/manifest.json"] == (3 if code == 500 else 1), "only what may pass is asked again"


def test_a_circle_of_redirects_is_named_as_such(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    def in_a_circle(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answers["*"] = in_a_circle
    text = fail("inspect", server.url, capsys=capsys)
    assert text == f"{server.url}: manifest.json: the server redirects in a circle{MEND}"


@pytest.mark.parametrize("command", ["inspect", "fetch-views"])
def test_nobody_listens(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(remote, "DELAYS", (0.0,))
    text = fail(command, "http://127.0.0.1:9/large.zarr", capsys=capsys)
    assert re.fullmatch(
        r"http://127\.0\.0\.1:9/large\.zarr: manifest\.json: Cannot connect to host .*" + re.escape(MEND), text
    )


def test_an_unfinished_store_is_not_called_one_for_want_of_a_listing(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    del server.files["manifest.json"]
    text = fail("inspect", server.url, capsys=capsys)
    assert (
        text == f"{server.url}: no manifest.json, so there is no finished store; run `prepkd cache-logits NAME` again"
    )
    server.files.clear()
    text = fail("inspect", server.url, capsys=capsys)
    assert text == f"{server.url}: no such store; run `prepkd cache-logits NAME`"


def test_a_page_in_place_of_a_file_is_named(server: Server) -> None:
    server.answers["*"] = page
    text = refused(InputError, LogitStore.open, server.url)
    assert text == f"{server.url}: manifest.json: it is an HTML page; the server does not have this file"
    del server.answers["*"]
    server.answers["logits/c/1/2/0"] = page
    assert f"{server.url}: logits/c/1/2/0: it " in refused(InputError, read, server.url)
    server.files["logits/c/1/2/0"] = b"<html></html>"
    server.answers.clear()
    text = refused(InputError, read, server.url)
    assert text.startswith(
        f"{server.url}: logits/c/1/2/0: it is an HTML page; the server does not have this file: sha256"
    )
    assert [one.problem.split(";")[0] for one in damages(server.url)] == ["it is an HTML page"]


def test_a_missing_chunk_is_named(server: Server) -> None:
    del server.files["row_max/c/2/1"]
    assert refused(InputError, read, server.url).startswith(f"{server.url}: row_max/c/2/1 is missing; fetch the store")
    assert [(one.chunk, one.problem) for one in damages(server.url)] == [("row_max/c/2/1", "missing")]


@pytest.mark.parametrize("key", ["zarr.json", "logits/c/1/2/0", "summary.json"])
def test_an_endless_answer_ends(server: Server, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers[key] = endless
    text = refused(InputError, read, server.url)
    assert re.match(rf"{server.url}: {key}: it has more than [\d,]+ bytes", text)


@pytest.mark.parametrize("answer", [silent, trickle], ids=["silent", "trickle"])
@pytest.mark.parametrize("key", ["manifest.json", "params/c/0/0/0"])
def test_a_slow_answer_is_given_up(server: Server, answer: Answer, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LogitStore.open(server.url)
    monkeypatch.setattr(remote, "PATIENCE", 0.05)
    monkeypatch.setattr(remote, "DELAYS", (0.0,))
    server.answers[key] = answer
    text = (
        refused(InputError, LogitStore.open, server.url)
        if key == "manifest.json"
        else refused(InputError, store.logits, 0)
    )
    # On a busy machine another file of the view may be the first to time out.
    file = r"\w+/c/0/\d(/0)?" if "/c/" in key else re.escape(key)
    assert re.fullmatch(rf"{server.url}: {file}: the server is silent or too slow{re.escape(MEND)}", text)


@pytest.mark.parametrize("first", [status(503), status(429), cut], ids=["503", "429", "cut"])
def test_what_passes_is_tried_again(server: Server, first: Answer) -> None:
    """Every file is retried twice."""
    counts = Counter[str]()

    def flaky(handler: Handler) -> None:
        counts[handler.path] += 1
        key = handler.path.removeprefix("/large.zarr/")
        if counts[handler.path] % 3:
            first(handler)
        else:
            handler.send(200, server.files[key]) if key in server.files else handler.send(404, b"")

    server.answers["*"] = flaky
    read(server.url)
    server.answers["*"] = first
    assert f"{server.url}: manifest.json: " in refused(InputError, read, server.url)


def test_the_waits_grow() -> None:
    assert all(earlier < later for earlier, later in itertools.pairwise(remote.DELAYS))


def test_reading_the_first_bytes_takes_no_more(server: Server) -> None:
    """This holds for a server that ignores ranges, like this one."""
    server.answers["zarr.json"] = endless
    assert get(open_place(server.url), "zarr.json", 1000) == b" " * 1000


def test_a_pinned_manifest(server: Server, made_up: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest, target = sha256(server.files["manifest.json"]), tmp_path / "copy"
    wrong = f"{'0' * 63}1"
    text = fail("fetch-views", server.url, "--to", str(target), "--sha256", wrong, capsys=capsys)
    assert text == (
        f"{server.url}: manifest.json: sha256 is {digest}, expected {wrong}: another store, or a changed one"
    )
    text = fail("fetch-views", server.url, "--to", str(target), "--sha256", "abc", capsys=capsys)
    assert text.startswith("--sha256 is 'abc'; expected 64 hex digits") and not target.exists()
    from prepkd.cli import app

    app(["fetch-views", server.url, "--to", str(target), "--sha256", digest.upper()], standalone_mode=False)
    assert contents(target) == contents(made_up)
    assert LogitStore.open(target, sha256=digest).manifest_sha256 == digest

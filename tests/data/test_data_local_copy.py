"""Raw files at a URL: which files are fetched or fetched again, and which names in a bucket are refused."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import crafted_images
import fsspec
import h5py
import numpy as np
import pytest
from commands import enter, prepkd
from copied_bucket import Bucket
from prepkd.data.sources import SOURCES, local_copy
from prepkd.data.sources.local_copy import local_files
from prepkd.errors import InputError


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    """A bucket in this process's memory; tests/store/test_store_local_copy.py uses an S3 server."""
    yield Bucket(f"memory://{tmp_path.name}", tmp_path / "scratch")
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def test_only_what_changed_is_fetched_again(bucket: Bucket) -> None:
    there = {"train/a/1.png": b"one", "train/b/2.png": b"two", "test/a/3.png": b"three"}
    for name, content in there.items():
        bucket.put(name, content)
    assert bucket.copied() == there and bucket.fetched == ["3 of 3"]
    assert bucket.copied() == there and bucket.fetched == []
    bucket.put("train/b/2.png", b"TWO")  # of the same size
    bucket.remove("test/a/3.png")
    bucket.put("train/c/4.png", b"four")
    expected = {"train/a/1.png": b"one", "train/b/2.png": b"TWO", "train/c/4.png": b"four"}
    assert bucket.copied() == expected and bucket.fetched == ["2 of 3"]
    assert not (bucket.scratch / "test").exists()


def test_a_damaged_copy_is_fetched_again(bucket: Bucket) -> None:
    bucket.put("a", b"one")
    bucket.put("b", b"two")
    bucket.copied()
    (place,) = bucket.scratch.glob("raw-*/files")
    (place / "a").write_bytes(b"o")
    assert bucket.copied() == {"a": b"one", "b": b"two"} and bucket.fetched == ["1 of 2"]
    for damaged in ("{", "[]", "[" * 100_000):
        (place.parent / "versions.json").write_text(damaged)
        (place / "left").write_bytes(b"of an earlier copy")
        assert bucket.copied() == {"a": b"one", "b": b"two"} and bucket.fetched == ["2 of 2"]


def test_a_copy_that_was_interrupted_goes_on(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i}.png" for i in range(7)]
    for name in names:
        bucket.put(name, name.encode())
    monkeypatch.setattr(local_copy, "GROUP", 2)
    fetch = local_copy._Service.fetch

    def cut(self: Any, below: str, to: Path, size: int) -> None:
        if below == names[5]:
            to.write_bytes(b"5")
            raise KeyboardInterrupt
        fetch(self, below, to, size)

    with monkeypatch.context() as patch:
        patch.setattr(local_copy._Service, "fetch", cut)
        with pytest.raises(KeyboardInterrupt):
            bucket.copied()
    assert bucket.copied() == {name: name.encode() for name in names} and bucket.fetched == ["3 of 7"]


@pytest.mark.parametrize("kind", ["folder", "h5"])
def test_prepared_from_a_url_as_from_disk(
    bucket: Bucket, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw data at a URL and on disk give prepared files of equal bytes."""
    local = tmp_path / "local"
    if kind == "folder":
        crafted_images.folder(local)
        for path in local.rglob("*.*"):
            bucket.put(path.relative_to(local).as_posix(), path.read_bytes())
        url = bucket.url
    else:
        local = tmp_path / "images.h5"
        with h5py.File(local, "w") as file:
            for split in ("train", "test"):
                file[f"{split}/images"] = np.arange(6 * 48, dtype=np.uint8).reshape(6, 4, 4, 3)
                file[f"{split}/labels"] = np.arange(6) % 2
        bucket.put("images.h5", local.read_bytes())
        url = f"{bucket.url}/images.h5"
    enter(tmp_path, monkeypatch)
    made = []
    for raw in (str(local), url):
        write_params(kind, str(raw))
        prepkd("prepare")
        made.append(Path(f"data/{kind}.h5").read_bytes())
        Path(f"data/{kind}.h5").unlink()
    assert made[0] == made[1]


def test_faults_name_the_url(bucket: Bucket, tmp_path: Path) -> None:
    crafted_images.folder(tmp_path / "local")
    for path in (tmp_path / "local").rglob("*.*"):
        bucket.put(path.relative_to(tmp_path / "local").as_posix(), path.read_bytes())
    for name in ("notes", "more"):
        bucket.put(f"train/ant/{name}.txt", b"no image")
    with (
        pytest.raises(InputError) as caught,
        local_files(bucket.url, bucket.scratch, bucket.said.append) as raw,
    ):
        SOURCES["folder"].read(raw)
    for name in ("notes", "more"):
        (line,) = [line for line in caught.value.lines if f"{name}.txt" in line]
        assert line.strip().startswith(f"{bucket.url}/train/ant/{name}.txt: a .txt file among the images"), (
            "a line for each fault"
        )
    assert str(bucket.scratch) not in str(caught.value)


@pytest.mark.parametrize("name", ["../escaped.png", "a/../../escaped.png", "a//b.png", "./a.png"])
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Object stores allow any name; names that would leave the copy's folder are refused."""
    place = f"/{tmp_path.name}"
    files = fsspec.filesystem("memory")
    files.pipe_file(f"{place}/a.png", b"one")
    listing = {f"{place}/a.png": {"size": 3, "etag": "1"}, f"{place}/{name}": {"size": 3, "etag": "2"}}
    monkeypatch.setattr(type(files), "find", lambda self, path, **options: listing)
    with pytest.raises(InputError, match="expected names below it, without empty parts"):
        Bucket(f"memory:/{place}", tmp_path / "scratch").copied()
    assert not list(tmp_path.rglob("*.png"))
    files.rm_file(f"{place}/a.png")


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("a", b"one")
    monkeypatch.setattr(local_copy.shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(InputError, match=r"0\.0 GB to fetch; expected that much room in .*; make room, or set"):
        bucket.copied()
    assert not list(bucket.scratch.rglob("files"))


def test_a_file_that_grew_meanwhile_is_refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("a", b"one")
    versions = local_copy._Service.versions
    monkeypatch.setattr(
        local_copy._Service, "versions", lambda self: {name: [2, one[1]] for name, one in versions(self).items()}
    )
    with pytest.raises(InputError, match="a: 3 bytes came, 2 were listed; run again"):
        bucket.copied()
    (index,) = bucket.scratch.glob("raw-*/versions.json")
    assert json.loads(index.read_bytes()) == {}


class GrowingServer(http.server.ThreadingHTTPServer):
    """A web server whose reader may leave early."""

    daemon_threads = False  # the end of the server's context waits for its answers

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Growing)
        self.left = threading.Event()


class Growing(http.server.BaseHTTPRequestHandler):
    """A file of 100 bytes to a HEAD request, and of 200 MB to a GET request."""

    server: GrowingServer

    def log_message(self, *arguments: Any) -> None:
        """Keep the test's output free of requests."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(200):
                self.wfile.write(bytes(10**6))
        except ConnectionError:
            self.server.left.set()


def test_a_file_without_end_is_given_up(tmp_path: Path) -> None:
    """The server sees the connection close long before the end; nothing that came is kept."""
    with GrowingServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/images.h5"
        with pytest.raises(InputError) as caught:
            Bucket(url, tmp_path).copied()
        server.shutdown()
        thread.join()
    assert server.left.is_set()
    said = str(caught.value)
    assert said.startswith(f"{url}: ") and said.endswith(" bytes came, 100 were listed; run again")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".json", ".lock")]


def test_a_download_into_a_url_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    write_params("cinic10", "s3://bucket/x")
    said = prepkd("prepare", "--download", code=2)
    assert "--download fetches into prepare.raw, which is s3://bucket/x; expected a folder" in said


def test_a_url_with_secrets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    write_params("folder", "s3://me:SECRETPW@bucket/x")
    said = prepkd("prepare", code=2)
    assert "prepare.raw" in said and "has a login or a query" in said and "SECRETPW" not in said


def write_params(dataset: str, raw: str) -> None:
    Path("params.yaml").write_text(
        f"prepare: {{dataset: {dataset}, raw: '{raw}'}}\naugment: []\nteachers: {{large: {{model: convnet4, epochs: 1}}}}\n"
        "cache: {views: 1}\ndistill: {teacher: large, student: convnet4, epochs: 1}\ncompare: {runs: [kd]}\n"
    )

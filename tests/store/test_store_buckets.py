"""Buckets whose server accepts no connection, never answers, or fails and recovers; objects outside the place are ignored."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prepkd.errors import InputError
from prepkd.store import remote
from prepkd.store.claims import Claims, Objects, claim_files
from prepkd.store.place import child_names, delete, exists, get, keys, open_place, put, sizes
from prepkd.store.remote import RemoteStore, _is_below
from store_checks import refused
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore

MEND = "; check URL, network and credentials (docs/how-to/sharing.md)"
OPERATIONS: dict[str, Callable[[Any], object]] = {
    "get": lambda place: get(place, "zarr.json"),
    "first bytes": lambda place: get(place, "zarr.json", 10),
    "set": lambda place: put(place, "zarr.json", b"{}"),
    "exists": lambda place: exists(place, "zarr.json"),
    "create": lambda place: sync(place.create("claims/finish.0", b"worker")),
    "delete": lambda place: delete(place, "zarr.json"),
    "is_object": lambda place: sync(place.is_object()),
    "sizes": sizes,
    "list": keys,
    "list_dir": child_names,
}


@pytest.fixture(params=["accepts no connection", "never answers"])
def silent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the endpoint of a server that exists but does not answer."""
    monkeypatch.setattr(remote, "PATIENCE", 0.05)
    monkeypatch.setattr(remote, "LONG", 0.05)
    monkeypatch.setattr(remote, "DELAYS", (0.0,))
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0 if request.param == "accepts no connection" else 100)
        if request.param == "accepts no connection":
            for waiting in (first, second):  # fill the queue of connections that are never accepted
                waiting.setblocking(False)
                waiting.connect_ex(server.getsockname())
        yield "http://{}:{}".format(*server.getsockname())


@pytest.mark.timeout(120)
def test_a_silent_bucket_is_given_up(silent: str) -> None:
    """Every operation gives up; botocore's own limits are minutes."""
    pytest.importorskip("s3fs", reason="the s3 extra brings s3fs")
    options = {"endpoint_url": silent, "key": "key", "secret": "secret"}
    place = open_place("s3://bucket/large.zarr", write=True, **options)
    for operation in OPERATIONS.values():
        text = refused(InputError, operation, place)
        assert text == f"s3://bucket/large.zarr: the server is silent or too slow{MEND}"


@pytest.mark.timeout(120)
def test_a_silent_web_server_is_given_up(silent: str) -> None:
    place = open_place(f"{silent}/large.zarr")
    for name in ("get", "first bytes", "exists"):
        text = refused(InputError, OPERATIONS[name], place)
        assert text.startswith(f"{silent}/large.zarr: ") and text.endswith(f"the server is silent or too slow{MEND}")


def test_a_bucket_that_recovers_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two failures are retried and a third is reported; a permanent error is not retried."""
    monkeypatch.setattr(remote, "DELAYS", (0.0, 0.0))
    place = open_place("memory://recovers", write=True)
    put(place, "zarr.json", b"{}")
    failures = list[Exception]()

    def flaky(name: str) -> Callable[..., Any]:
        own = getattr(FsspecStore, name)

        async def call(self: FsspecStore, *arguments: Any, **named: Any) -> Any:
            if failures:
                raise failures.pop()
            return await own(self, *arguments, **named)

        return call

    for name in ("get", "set", "exists", "delete"):
        monkeypatch.setattr(FsspecStore, name, flaky(name))
    for name in ("get", "set", "exists", "delete"):
        failures[:] = [ConnectionResetError("reset"), TimeoutError()]
        OPERATIONS[name](place)
        assert not failures
        failures[:] = [ConnectionResetError("reset")] * 3
        assert refused(InputError, OPERATIONS[name], place) == f"memory:///recovers: reset{MEND}"
        failures[:] = [PermissionError("denied")] * 3
        assert refused(InputError, OPERATIONS[name], place) == f"memory:///recovers: denied{MEND}"
        assert len(failures) == 2
        failures.clear()


def test_a_conditional_put_whose_answer_is_lost_still_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second attempt finds the object of the first: conditional puts work, and the claim is the worker's own."""
    monkeypatch.setattr(remote, "DELAYS", (0.0, 0.0))
    place = open_place("memory://lost", write=True)
    assert isinstance(place, RemoteStore)
    put_file, lost = place.fs._pipe_file, [ConnectionResetError("reset")]

    async def pipe(*arguments: Any, **named: Any) -> None:
        await put_file(*arguments, **named)
        if lost:
            raise lost.pop()

    monkeypatch.setattr(place.fs, "_pipe_file", pipe)
    files = claim_files(place, tmp_path)
    assert isinstance(files, Objects) and not lost
    lost.append(ConnectionResetError("reset"))
    claims = Claims(files)
    assert claims.take("0.0") and claims.holds("0.0") and not lost
    assert not Claims(files).take("0.0")


@pytest.mark.parametrize(
    ("name", "root", "below"),
    [
        ("bucket/large.zarr/c/0", "bucket/large.zarr", True),
        ("bucket/large.zarr/..hidden", "bucket/large.zarr", True),
        ("bucket/large.zarr", "bucket/large.zarr", False),
        ("bucket/large.zarr2/c/0", "bucket/large.zarr", False),
        ("bucket/other/c/0", "bucket/large.zarr", False),
        ("bucket/large.zarr/../other/c", "bucket/large.zarr", False),
        ("bucket/large.zarr/c/..", "bucket/large.zarr", False),
        ("any/c/0", "", True),
        ("any/../c", "", False),
    ],
)
def test_what_is_below_a_place(name: str, root: str, below: bool) -> None:
    assert _is_below(name, root) is below


def test_a_listing_that_points_outside_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_place("memory://listed/large.zarr")
    assert isinstance(place, RemoteStore) and isinstance(place, Store)
    named = ("c/0", "../other.zarr/c/1", "c/../../../etc", "manifest.json")

    async def listing(path: str, **named_options: Any) -> dict[str, dict[str, int]]:
        found = {f"{path}/{name}": {"size": 3} for name in named}
        return found | {f"{path}2/c/0": {"size": 3}, "/etc/passwd": {"size": 3}}

    monkeypatch.setattr(place.fs, "_find", listing)
    assert sizes(place) == {"c/0": 3, "manifest.json": 3}
    assert keys(place) == {"c/0", "manifest.json"}

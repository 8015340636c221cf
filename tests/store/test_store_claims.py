"""Claims: only one worker computes a chunk, and a dead worker's claim expires, whatever the machines' clocks say."""

import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import ROOT
from prepkd.runtime.files import has_ended, this_process
from prepkd.store.claims import CLAIM, EXPIRY, ClaimFiles, ClaimFolder, Claims, Objects, claim_files
from prepkd.store.ownership import first_foreign, refuse_foreign_store, store_key_patterns
from prepkd.store.place import keys, open_place
from prepkd.store.remote import RemoteStore
from store_writing import fork

ELSEWHERE = "0123abcd-4711-"  # a worker of another machine


class Clock:
    """A clock whose seconds the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["folder", "memory", "s3"])
def open_files(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], ClaimFiles]:
    """Open the claims of one place, as each worker does for itself."""
    if request.param == "folder":
        return lambda: _files(str(tmp_path), tmp_path / "claims")
    root = "memory:/" if request.param == "memory" else request.getfixturevalue("s3")
    return lambda: _files(f"{root}/{tmp_path.name}/large.zarr", tmp_path)


def _files(url: str, folder: Path) -> ClaimFiles:
    found = claim_files(open_place(url, write=True), folder)
    assert found is not None
    return found


def test_one_of_two_gets_a_claim_and_the_other_once_it_is_released(open_files: Callable[[], ClaimFiles]) -> None:
    one, other = Claims(open_files()), Claims(open_files())
    assert one.take("0.0") and not other.take("0.0") and other.take("0.1") and not one.take("0.1")
    assert one.holds("0.0") and other.holds("0.1")
    one.release("0.0")
    assert other.take("0.0")
    one.clear()
    assert not other.holds("0.0") and not other.holds("0.1")


def test_a_silent_workers_claim_expires_and_one_of_the_others_gets_it(open_files: Callable[[], ClaimFiles]) -> None:
    clock = Clock()
    silent, one, other = (Claims(open_files(), expiry=60, clock=clock) for _ in range(3))
    silent.worker = ELSEWHERE + silent.worker
    assert silent.take("0.0") and not one.take("0.0") and not other.take("0.0")
    clock.now += 59
    assert not one.take("0.0")
    silent.beat()
    clock.now += 59
    assert not one.take("0.0"), "it lives"
    clock.now += 59
    assert not one.take("0.0"), "a change counts from when it is seen"
    clock.now += 1
    assert one.take("0.0") and not other.take("0.0"), "the new claim is alive"
    one.release("0.0")
    clock.now += 60
    assert other.take("0.0") and not one.take("0.0")


def test_a_worker_that_was_only_slow_takes_nothing_from_its_successor(open_files: Callable[[], ClaimFiles]) -> None:
    clock = Clock()
    slow, other, third = (Claims(open_files(), expiry=60, clock=clock) for _ in range(3))
    slow.worker = ELSEWHERE + slow.worker
    assert slow.take("0.0") and not other.take("0.0")
    clock.now += 60
    assert other.take("0.0") and slow.holds("0.0")
    slow.release("0.0")
    assert other.holds("0.0")
    other.release("0.0")
    assert third.take("0.0")


def test_a_dead_process_of_this_machine_is_known_at_once(tmp_path: Path) -> None:
    files = claim_files(open_place(tmp_path, write=True), tmp_path / "claims")
    child = fork(lambda: Claims(files).take("0.0"))
    os.waitpid(child, 0)
    assert Claims(files).take("0.0")
    name = this_process()
    assert has_ended(name) is False and has_ended(f"{name.split('-')[0]}-{child}") is True
    assert has_ended("0123abcd-4711") is None and has_ended("no process") is None


@pytest.mark.parametrize("mtime", [0, 4_000_000_000])
def test_no_clock_of_another_machine_is_asked(tmp_path: Path, mtime: int) -> None:
    """The file server's clock is not used either: only whether the claim changes counts."""
    clock, files = Clock(), claim_files(open_place(tmp_path, write=True), tmp_path / "claims")
    theirs, ours = Claims(files), Claims(files, expiry=60, clock=clock)
    theirs.worker = ELSEWHERE + theirs.worker
    assert theirs.take("0.0")
    os.utime(tmp_path / "claims/0.0.0", (mtime, mtime))
    assert not ours.take("0.0")
    clock.now += 59
    os.utime(tmp_path / "claims/0.0.0", (mtime - 1, mtime - 1))
    assert not ours.take("0.0")
    clock.now += 60
    assert ours.take("0.0")


def test_many_that_ask_at_once_have_one_winner(open_files: Callable[[], ClaimFiles]) -> None:
    clock = Clock()
    dead, *others = (Claims(open_files(), expiry=60, clock=clock) for _ in range(6))
    dead.worker = ELSEWHERE + dead.worker
    assert dead.take("0.0") and not any([one.take("0.0") for one in others])
    clock.now += 60
    won: list[Claims] = []
    together = threading.Barrier(len(others))

    def ask(one: Claims) -> None:
        together.wait(60)
        if one.take("0.0"):
            won.append(one)

    threads = [threading.Thread(target=ask, args=[one]) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1


def test_a_thread_shows_that_the_worker_lives_and_all_is_released_at_the_end(
    open_files: Callable[[], ClaimFiles],
) -> None:
    files = open_files()
    with Claims(files, expiry=0.01) as claims:
        assert claims.take("0.0")
        before = files.state("0.0.0")
        while files.state("0.0.0") == before:
            pass
    assert files.state("0.0.0") is None
    claims.beat()
    assert files.state("0.0.0") is None, "no beat makes a claim"


def test_a_worker_shows_its_life_several_times_before_its_claim_expires(
    open_files: Callable[[], ClaimFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    claims, waited = Claims(open_files(), expiry=60.0), []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return True  # the end

    monkeypatch.setattr(claims._ended, "wait", wait)
    with claims:
        pass
    assert waited and all(0 < seconds <= 60 / 3 for seconds in waited)


def test_the_docs_say_when_a_claim_expires() -> None:
    assert EXPIRY == 60
    for page, said in {
        "caching-on-a-cluster": "unchanged for 60 seconds",
        "cluster": "in flight after a minute",
    }.items():
        assert said in " ".join((ROOT / f"docs/how-to/{page}.md").read_text().split())


@pytest.mark.parametrize("content", [b"", b"\xff" * 300, b"a b c"])
def test_a_strange_claim_is_somebodys_until_it_expires(open_files: Callable[[], ClaimFiles], content: bytes) -> None:
    clock, files = Clock(), open_files()
    files.create("0.0.0", content)
    claims = Claims(files, expiry=60, clock=clock)
    assert not claims.take("0.0")
    clock.now += 60
    assert claims.take("0.0")


def test_without_the_folder_the_work_is_over(tmp_path: Path) -> None:
    claims = Claims(claim_files(open_place(tmp_path, write=True), tmp_path / "claims"))
    claims.clear()
    with pytest.raises(FileNotFoundError):
        claims.take("0.0")


def test_a_bucket_without_conditional_puts_has_no_claims(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_place(f"{s3}/{tmp_path.name}/large.zarr", write=True)
    assert isinstance(place, RemoteStore) and isinstance(claim_files(place, tmp_path), Objects)
    assert keys(place) == set(), "nothing is left of the trial"
    put = type(place.fs)._pipe_file

    async def replacing(fs: object, path: str, data: bytes, **named: object) -> None:
        named.pop("mode", None)  # like a service without If-None-Match
        await put(fs, path, data, **named)

    async def refusing(fs: object, path: str, data: bytes, *, mode: str = "overwrite", **named: object) -> None:
        if mode == "create":
            raise OSError(38, "A header you provided implies functionality that is not implemented.")
        await put(fs, path, data, **named)

    async def unaware(fs: object, path: str, data: bytes) -> None:
        await put(fs, path, data)

    for answer in (replacing, refusing, unaware):
        monkeypatch.setattr(type(place.fs), "_pipe_file", answer)
        assert claim_files(place, tmp_path) is None
        assert keys(place) == set()
    claims = Claims(None)
    assert claims.take("0.0") and claims.take("0.0") and claims.holds("0.0")
    claims.release("0.0")


def test_claims_are_prepkds_own_and_no_store(open_files: Callable[[], ClaimFiles], s3: str, tmp_path: Path) -> None:
    url = f"{s3}/{tmp_path.name}/large.zarr"
    claims = Claims(_files(url, tmp_path))
    for name in ("12.345", "finish"):
        claims.take(name)
    place = open_place(url, write=True)
    assert keys(place) == {"claims/12.345.0", "claims/finish.0"}
    assert all(CLAIM.fullmatch(key) and store_key_patterns()[0].fullmatch(key) for key in keys(place))
    refuse_foreign_store(url)
    _files(url, tmp_path).create("notes.txt", b"x")
    assert first_foreign(place) == "claims/notes.txt"


def test_a_claim_that_cannot_be_written_is_removed_and_one_of_another_worker_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    folder, path = ClaimFolder(tmp_path), tmp_path / "claim"

    def full(self: Path, mode: str) -> Full:
        self.touch()
        return Full()

    def stale(self: Path, mode: str) -> Full:
        raise OSError(errno.ESTALE, "Stale file handle", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(OSError) as refused:
            folder.create("claim", b"mine")
    assert refused.value.filename == str(path) and not path.exists()
    path.write_bytes(b"theirs")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", stale)
        with pytest.raises(OSError):
            folder.create("claim", b"mine")
    assert path.read_bytes() == b"theirs"

"""Several workers write one store: one worker's bytes, no chunk computed twice; some workers are late, die or are slow."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from prepkd.errors import InputError
from prepkd.runtime.files import fingerprint
from prepkd.store import LogitStore, workers
from prepkd.store.attributes import Attributes
from prepkd.store.claims import Claims, claim_files
from prepkd.store.destination import Destination
from prepkd.store.place import delete, keys, open_place
from prepkd.store.unfinished import work_fingerprint
from prepkd.store.workers import Worker, join_workers
from store_checks import files, refused
from store_writing import ATTRIBUTES, LABELS, LAYOUT, answer, chunk_files, contents

PARTS = [(view, chunk) for view in range(3) for chunk in range(3)]
WORK = work_fingerprint(ATTRIBUTES, LAYOUT)
ELSEWHERE = "0123abcd-4711-"  # a worker of another machine


@pytest.fixture(autouse=True)
def polls_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "POLL", 0.001)
    monkeypatch.setattr(workers, "REMOTE_POLL", 0.05)


@pytest.fixture
def url(root: str) -> str:
    return f"{root}/large.zarr"


def join(url: str, scratch: Path, **options: Any) -> Any:
    attributes = options.pop("attributes", ATTRIBUTES)
    expiry = {key: options.pop(key) for key in ("expiry",) if key in options}
    destination = Destination(url, scratch, **{"on_wait": lambda line: None} | options)
    return join_workers(destination, LAYOUT, attributes, **expiry)


def compute(worker: Worker, most: int = 99) -> list[tuple[int, int]]:
    """Write claimed chunks, and return them."""
    written = []
    for _, part in zip(range(most), worker.claimed(), strict=False):  # in this order: every claimed chunk is written
        worker.write(*part, answer(part[0], LAYOUT.slice(part[1])))
        written.append(part)
    return written


def all_of_it(url: str, scratch: Path, **options: Any) -> list[tuple[int, int]]:
    """Run a worker from start to end, and return the chunks that it wrote."""
    with join(url, scratch, **options) as worker:
        if not isinstance(worker, Worker):
            return []
        written = compute(worker)
        worker.finish(LABELS)
        assert worker.written == len(written)
        return written


def at_once(*lives: Callable[[], list[tuple[int, int]]]) -> list[list[tuple[int, int]]]:
    """Run workers in threads that start together, and return the chunks that each wrote."""
    together, wrote, failed = threading.Barrier(len(lives)), [], []

    def live(life: Callable[[], list[tuple[int, int]]]) -> None:
        together.wait(60)
        try:
            wrote.append(life())
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=live, args=[one]) for one in lives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed and len(wrote) == len(lives)
    return wrote


@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("machines", ["one scratch folder", "one each"])
def test_the_bytes_are_those_of_one_worker_and_no_chunk_is_computed_twice(
    url: str, tmp_path: Path, made_up: Path, count: int, machines: str
) -> None:
    """The cases include more workers than chunks; workers of a bucket share nothing else."""
    if machines == "one each" and "://" not in url:
        pytest.skip("on a file system the scratch folder is shared")
    if count == 12 and url.startswith("s3://"):
        pytest.skip("a server of our own is slow")
    scratch = [tmp_path / "scratch" / (str(n) if machines == "one each" else "") for n in range(count)]
    wrote = at_once(*(lambda own=own: all_of_it(url, own) for own in scratch))
    assert Counter(part for one in wrote for part in one) == Counter(PARTS)
    assert files(url) == contents(made_up)
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
    assert all_of_it(url, tmp_path / "scratch") == []


def test_a_late_one_joins_and_the_others_find_nothing_left(url: str, tmp_path: Path, made_up: Path) -> None:
    done: list[None] = []
    with join(url, tmp_path / "scratch", on_chunk=lambda: done.append(None)) as first:
        assert len(compute(first, 2)) == 2
        refused(InputError, LogitStore.open, url)
        with join(url, tmp_path / "scratch") as late:
            assert len(late.pending) == 7
            held = next(first.claimed())
            rest = late.claimed()
            written = [next(rest) for _ in range(6)]
            assert held not in written and len(written) == 6
            for part in written:
                late.write(*part, answer(part[0], LAYOUT.slice(part[1])))
            first.write(*held, answer(held[0], LAYOUT.slice(held[1])))
            assert list(rest) == []
            summary = late.finish(LABELS)
        assert compute(first) == [] and first.finish(LABELS) == summary
    assert files(url) == contents(made_up) and not list((tmp_path / "scratch").iterdir())


def test_the_claim_of_a_dead_worker_on_another_machine_expires(url: str, tmp_path: Path, made_up: Path) -> None:
    with join(url, tmp_path / "scratch") as first:
        dead = Claims(claim_files(first.writer.store, tmp_path / "scratch" / WORK / "claims"))
        dead.worker = ELSEWHERE + dead.worker
        assert dead.take("1.1")
        assert sorted(all_of_it(url, tmp_path / "scratch", expiry=0.05)) == PARTS
        assert compute(first) == []
    assert files(url) == contents(made_up)


def test_one_that_was_only_slow_does_no_harm(url: str, tmp_path: Path, made_up: Path) -> None:
    """Its chunk is taken over; it wakes up before the store is finished, or after."""
    for wakes in ("before", "after"):
        with join(url, tmp_path / "scratch", expiry=1e6) as slow:
            slow.claims.worker = ELSEWHERE + slow.claims.worker
            part = next(slow.claimed())
            with join(url, tmp_path / "scratch", expiry=0.05) as other:
                assert sorted(compute(other)) == PARTS
                if wakes == "before":
                    slow.write(*part, answer(part[0], LAYOUT.slice(part[1])))
                other.finish(LABELS)
            before = files(url)
            if wakes == "after":
                slow.write(*part, answer(part[0], LAYOUT.slice(part[1])))
            assert slow.finish(LABELS)
        assert files(url) == before == contents(made_up)
        assert not (tmp_path / "scratch").exists() or not list((tmp_path / "scratch").iterdir())
        for key in sorted(keys(open_place(url))):
            delete(open_place(url, write=True), key)


def test_a_worker_that_fails_leaves_its_chunk_to_the_others(
    url: str, tmp_path: Path, made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with join(url, tmp_path / "scratch") as other:
        with pytest.raises(OSError, match="full"), join(url, tmp_path / "scratch") as first:
            ahead = first.claimed()
            part, _ = next(ahead), next(ahead)
            with monkeypatch.context() as patch:
                patch.setattr(first.writer, "write", Mock(side_effect=OSError(28, "full")))
                first.write(*part, {})
        assert sorted(compute(other)) == PARTS
        other.finish(LABELS)
    assert files(url) == contents(made_up)


@pytest.mark.parametrize("key", ["logits", "row_max"])
def test_a_damaged_chunk_is_computed_again_by_the_first_that_comes(tmp_path: Path, made_up: Path, key: str) -> None:
    url, scratch = str(tmp_path / "large.zarr"), tmp_path / "scratch"
    with pytest.raises(KeyboardInterrupt), join(url, scratch) as first:
        compute(first, 5)
        raise KeyboardInterrupt
    there = next(part for part in PARTS if first.writer.committed(*part))
    path = chunk_files(scratch / WORK / "store.zarr", *there)[key]
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with join(url, scratch) as again, join(url, scratch) as late:
        assert len(again.pending) == 5 and again.damaged == {there} and len(late.pending) == 4
        assert len(compute(again)) == 5
        late.finish(LABELS)
    assert contents(Path(url)) == contents(made_up)


def test_a_damaged_store_at_the_place_is_not_taken_for_the_new_one(folder: Path, tmp_path: Path, made_up: Path) -> None:
    chunk_files(folder, 0, 0)["logits"].write_bytes(b"x" * 84)
    with join(str(folder), tmp_path / "scratch") as first, join(str(folder), tmp_path / "scratch") as second:
        assert sorted(compute(first)) == PARTS
        assert first.finish(LABELS) == second.finish(LABELS)
    assert contents(folder) == contents(made_up)


def test_two_places_share_the_work(tmp_path: Path, made_up: Path) -> None:
    """Two queued experiments may need the same store."""
    one, other, scratch = str(tmp_path / "one.zarr"), str(tmp_path / "other.zarr"), tmp_path / "scratch"
    with join(one, scratch) as first, join(other, scratch) as second:
        assert len(compute(first, 4)) == 4 and len(compute(second)) == 5 and compute(first) == []
        first.finish(LABELS)
        assert contents(Path(one)) == contents(made_up) and not Path(other).exists()
        second.finish(LABELS)
    assert contents(Path(other)) == contents(made_up)
    assert not list(scratch.iterdir())


def test_another_store_for_the_place_waits_and_is_refused(url: str, tmp_path: Path, made_up: Path) -> None:
    changed = ATTRIBUTES.fingerprints | {"teacher": fingerprint("another")}
    other = Attributes.model_validate(ATTRIBUTES.model_dump() | {"fingerprints": changed})
    lines, waits, said = [], threading.Event(), []

    def on_wait(line: str) -> None:
        lines.append(line)
        waits.set()

    def later() -> None:
        said.append(refused(InputError, all_of_it, url, tmp_path / "scratch", attributes=other, on_wait=on_wait))

    thread = threading.Thread(target=later)
    with join(url, tmp_path / "scratch") as first:
        compute(first, 3)
        thread.start()
        assert waits.wait(60)
        compute(first)
        assert not said
        first.finish(LABELS)
    thread.join(60)
    assert lines == [f"{url}: another process is writing there; waiting for it to end"]
    assert "(different: teacher); --replace replaces it" in said[0]
    assert files(url) == contents(made_up)


def test_a_bucket_without_conditional_puts_is_written_all_the_same(
    s3: str, tmp_path: Path, made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, lines = f"{s3}/{tmp_path.name}/large.zarr", []
    fs = type(open_place(url, write=True).fs)  # type: ignore[attr-defined]
    put = fs._pipe_file

    async def replacing(fs: object, path: str, data: bytes, **named: object) -> None:
        named.pop("mode", None)
        await put(fs, path, data, **named)

    monkeypatch.setattr(fs, "_pipe_file", replacing)
    options: dict[str, Any] = {"on_wait": lines.append}
    wrote = at_once(*(lambda n=n: all_of_it(url, tmp_path / f"scratch{n}", **options) for n in range(3)))
    assert {part for one in wrote for part in one} == set(PARTS)
    assert files(url) == contents(made_up)
    line = f"{url}: has no conditional put, so two processes may compute the same chunk; its bytes are the same"
    assert line in lines

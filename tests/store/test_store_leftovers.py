"""A process killed between publishing a store and clearing up leaves no permanent files, and removes none of another process."""

import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from prepkd.runtime import files
from prepkd.runtime.files import publish
from prepkd.runtime.scratch import is_awaited, scratch
from prepkd.store import LogitStore
from prepkd.store.fetch import fetch_views, open_source
from prepkd.store.unfinished import already_finished, work_fingerprint
from store_checks import fail
from store_writing import (
    ATTRIBUTES,
    LAYOUT,
    SMALL,
    answer,
    attributes,
    contents,
    fork,
    open_writer,
    write,
    writing,
)


def ignore(*_: object) -> None:
    pass


DESCRIBED = attributes(SMALL)
NAME = work_fingerprint(DESCRIBED, SMALL)


def write_to(place: Path, root: Path) -> None:
    """Write the store in scratch, publish it and clear up, as `cache-logits` does."""
    with writing(place, root, SMALL, DESCRIBED, on_wait=ignore) as writer:
        for view, chunk in list(writer.pending()):
            writer.write(view, chunk, answer(view, SMALL.slice(chunk), SMALL))


def publish_and_clear_up(place: Path, root: Path) -> None:
    """Publish and clear up without Zarr, whose thread does not survive a fork."""
    with scratch(root, NAME, on_wait=ignore) as work:
        publish(work / "store.zarr", place, keep=is_awaited(work))


def killed(work: Callable[[], object], *, at: int) -> bool:
    """Run in a fork that is killed right before the `at`-th rename or removal; return whether it came so far.

    Within the removal of a folder only the second removal counts, when the folder is half removed.
    """

    def run() -> None:
        calls, within = 0, 0

        def counted(function: Callable[..., object], *arguments: object, **options: object) -> object:
            nonlocal calls, within
            calls += within in (0, 2)
            if calls > at:
                os._exit(9)
            if function is not rmtree:
                within += within > 0
                return function(*arguments, **options)
            within = 1
            try:
                return function(*arguments, **options)
            finally:
                within = 0

        rmtree = shutil.rmtree
        for owner, name in ((os, "rename"), (os, "rmdir"), (os, "unlink"), (shutil, "rmtree")):
            setattr(owner, name, partial(counted, getattr(owner, name)))
        work()

    return os.waitstatus_to_exitcode(os.waitpid(fork(run), 0)[1]) == 9


@pytest.mark.parametrize("across_devices", [False, True])
def test_killed_at_each_step_of_publishing_and_clearing_up(
    across_devices: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older store is replaced, then the same command runs again."""
    if across_devices:
        monkeypatch.setattr(files, "_moved", lambda *_: False)
    write(tmp_path / "whole", layout=SMALL)
    whole, steps, ended = contents(tmp_path / "whole"), 0, False
    while not ended:
        here = tmp_path / f"{steps}"
        place, root = here / "large.zarr", here / "scratch"
        work = shutil.copytree(tmp_path / "whole", root / NAME / "store.zarr")
        shutil.copytree(tmp_path / "whole", place)
        (place / "logits/c/0/0/0").write_bytes(b"damaged")
        ended = not killed(partial(publish_and_clear_up, place, root), at=steps)
        if already_finished(str(place), SMALL, DESCRIBED, root) is None:
            write_to(place, root)
        assert contents(place) == whole
        left = [path for path in (*here.iterdir(), *root.iterdir()) if path not in (place, root)]
        if across_devices and work.exists():  # killed between the renames of the copy and of its source
            assert contents(work) == whole  # the work may be meant for another place
        else:
            assert not left, f"step {steps}"
        steps += 1
    assert steps > 8


def test_a_living_process_keeps_what_it_has_moved_aside(tmp_path: Path) -> None:
    """Another project publishes to the same place: between its two renames only its old store could be put back."""
    target, source = tmp_path / "large.zarr", tmp_path / "work"
    source.mkdir()
    theirs = target.with_name(f".{target.name}.{files._here()}-{os.getppid()}.stale")
    theirs.mkdir()
    publish(source, target)
    assert theirs.is_dir()


def test_work_that_is_not_published_stays(folder: Path, tmp_path: Path) -> None:
    """The work may be for another place: a finished store in one place says nothing about the other."""
    root = tmp_path / "scratch"
    work = root / work_fingerprint(ATTRIBUTES, LAYOUT) / "store.zarr"
    open_writer(work).write(0, 0, answer(0, LAYOUT.slice(0)))
    before = contents(work)
    assert already_finished(str(folder), LAYOUT, ATTRIBUTES, root)
    assert contents(work) == before


def test_work_under_way_stays(folder: Path, tmp_path: Path) -> None:
    root, name = tmp_path / "scratch", work_fingerprint(ATTRIBUTES, LAYOUT)
    with scratch(root, name, on_wait=pytest.fail) as work:
        assert already_finished(str(folder), LAYOUT, ATTRIBUTES, root)
        assert work.is_dir() and Path(f"{work}.lock").exists()


# Two projects that fetch to the same place


def test_two_projects_that_fetch_to_one_place_take_turns(folder: Path, tmp_path: Path) -> None:
    target, waited, ended = tmp_path / "shared" / "large.zarr", threading.Event(), []

    def other_project() -> None:
        def on_wait(line: str) -> None:
            assert str(target.parent) in line
            waited.set()

        other = tmp_path / "scratch of another project"
        ended.append(fetch_views(open_source(str(folder)), str(target), "1", other, on_wait=on_wait))

    second = threading.Thread(target=other_project)

    def on_start(*_: object) -> None:
        second.start()
        assert waited.wait(60), "it did not wait"

    first = open_source(str(folder))
    fetch_views(first, str(target), "0", tmp_path / "scratch", on_wait=pytest.fail, on_start=on_start)
    second.join(60)
    assert ended and ended[0].views == [0, 1]
    assert LogitStore.open(target).present == [0, 1]
    assert list(target.parent.iterdir()) == [target], "the lock is gone"


@pytest.mark.parametrize("url", ["..", "../", ".", "/", "s3://bucket/.."])
def test_a_copy_needs_a_name(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fail("fetch-views", url, capsys=capsys) == f"{url}: has no name for the copy; choose its place with --to"
    assert not list(tmp_path.iterdir())

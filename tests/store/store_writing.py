"""A tiny store of made-up logits; as a script, it kills a writer at every step that touches the disk.

`python store_writing.py FOLDER` forks a writer for each fsync and rename of an uninterrupted run, kills it there with
SIGKILL, lets another writer resume, and prints its observations as JSON.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prepkd.runtime.files import write_bytes
from prepkd.store.attributes import Attributes
from prepkd.store.destination import Destination
from prepkd.store.encodings import words_of
from prepkd.store.encodings.f16 import F16
from prepkd.store.layout import Layout
from prepkd.store.place import open_place
from prepkd.store.workers import Worker, join_workers
from prepkd.store.writer import StoreWriter
from prepkd.views import ViewPlan

RECIPE = [{"crop": {"padding": 1}}, "flip"]
# 22 samples in chunks of 8: two whole ones and a short one per view.
PLAN = ViewPlan(RECIPE, 3, 7, 22)
LAYOUT = Layout(PLAN, F16(5), 8)
SMALL = Layout(ViewPlan(RECIPE, 1, 7, 12), F16(5), 8)
LABELS = np.arange(22) % 5


@contextlib.contextmanager
def writing(
    url: object,
    scratch: Path,
    layout: Layout = LAYOUT,
    attributes: Attributes | None = None,
    *,
    on_wait: Callable[[str], None] = print,
    replace: bool = False,
) -> Iterator[StoreWriter]:
    """Yield the writer of a store with a single process; the store is finished and published when the block ends."""
    with join_workers(Destination(str(url), scratch, on_wait, replace), layout, attributes or ATTRIBUTES) as worker:
        assert isinstance(worker, Worker)
        yield worker.writer
        worker.finish(LABELS[: layout.plan.samples])


def sections(layout: Layout) -> dict[str, Any]:
    """Return the fingerprinted sections of the attributes of a store of made-up logits."""
    return {
        "dataset": {"name": "made-up", "fingerprint": "d" * 64, "split_fingerprint": "5" * 64, "classes": 5},
        "split": "train",
        "teacher": {"name": "large", "model": "none", "weights_fingerprint": "e" * 64},
        "views": layout.plan.describe(),
        "encoding": layout.encoding.describe(),
        "precision": {"arithmetic": "ieee", "batch_size": 4, "device": "cpu, 1 threads"},
    }


def attributes(layout: Layout) -> Attributes:
    """Return the attributes of a store of made-up logits."""
    return Attributes.made_from(sections(layout))


ATTRIBUTES = attributes(LAYOUT)


def raw(view: int, part: slice) -> torch.Tensor:
    """Return logits that are a function of (view, sample) alone."""
    samples = np.arange(part.start, part.stop)[:, None]
    return torch.from_numpy(4 * np.sin(1.0 + view + 0.7 * samples + 1.3 * np.arange(5)).astype(np.float32))


def answer(view: int, part: slice, layout: Layout = LAYOUT) -> dict[str, torch.Tensor]:
    """Return the encoded logits."""
    words = words_of(layout.encoding, layout.plan, view, part)
    return layout.encoding.encode(raw(view, part), torch.from_numpy(LABELS[part]), words)


def open_writer(folder: Path, layout: Layout = LAYOUT, **changes: Any) -> StoreWriter:
    """Open a writer of made-up logits; `changes` replace keys of its attributes."""
    described = Attributes.model_validate(attributes(layout).model_dump() | changes)
    return StoreWriter(open_place(folder, write=True), layout, described, folder)


def write(
    folder: Path, *, layout: Layout = LAYOUT, order: Callable[[list[Any]], Iterable[Any]] = list
) -> dict[str, Any]:
    """Write the pending chunks in some order, then finish; return the summary."""
    writer = open_writer(folder, layout)
    for view, chunk in order(list(writer.pending())):
        writer.write(view, chunk, answer(view, layout.slice(chunk), layout))
    return writer.finish(LABELS[: layout.plan.samples])


def contents(folder: Path) -> dict[str, bytes]:
    """Return relative path -> bytes of every file."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def chunk_files(folder: Path, view: int, chunk: int) -> dict[str, Path]:
    """Return the files of one chunk, by array."""
    tails = {"logits": "/0", "params": "/0", "row_max": ""}
    return {name: folder / f"{name}/c/{view}/{chunk}{tail}" for name, tail in tails.items()}


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and mtime of all files of each chunk whose commit record, the logits file, exists."""
    found = {}
    for commit in sorted(folder.glob("logits/c/*/*/0")):
        view, chunk = int(commit.parts[-3]), int(commit.parts[-2])
        for path in chunk_files(folder, view, chunk).values():
            state = path.stat()  # fails if a chunk has a logits file but lacks another file
            found[path.relative_to(folder).as_posix()] = state.st_ino, state.st_mtime_ns
    return found


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a forked child, and return its process number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:  # never return into the parent's code
            if status:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(status)
    return child


def _in_child(work: Callable[[], object]) -> int:
    """Run `work` in a fork, and return its wait status."""
    return os.waitpid(fork(work), 0)[1]


def _before_each_step(hook: Callable[[], None]) -> None:
    for name in ("fsync", "replace"):
        setattr(os, name, _after(hook, getattr(os, name)))


def _after(hook: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any) -> Any:
        hook()
        return function(*arguments)

    return wrapped


def _write_and_die(folder: Path, step: int) -> None:
    left = step

    def hook() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _before_each_step(hook)
    write(folder, layout=SMALL)


def _write_and_count(folder: Path, count: Path) -> None:
    steps: list[None] = []
    _before_each_step(lambda: steps.append(None))
    write(folder, layout=SMALL)
    total = len(steps)
    write_bytes(count, str(total).encode())


def main(root: Path) -> None:
    """Kill a writer before each of its steps, then resume; print the report to standard output."""
    assert _in_child(lambda: _write_and_count(root / "whole", root / "count")) == 0
    expected, steps = contents(root / "whole"), int((root / "count").read_text())
    finished, touched, different = [], [], []
    for step in range(steps):
        folder = root / f"step{step}"
        status = _in_child(lambda folder=folder, step=step: _write_and_die(folder, step))
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (step, status)
        before = identities(folder)
        finished.append(len(before) // 3)
        assert _in_child(lambda folder=folder: write(folder, layout=SMALL)) == 0, step
        after = identities(folder)
        touched += [(step, path) for path, state in before.items() if after[path] != state]
        different += [step] * (contents(folder) != expected)
    print(json.dumps({"steps": steps, "finished": finished, "touched": touched, "different": different}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

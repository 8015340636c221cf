"""Writers killed with SIGKILL, again and again, while another process reads: what came of it, as JSON.

`python tests/store/fault_injection.py --kills 120` forks writers of made-up logits, of each encoding in turn, kills every
other one as its next chunk appears and the rest at random moments, and lets others go on until the store is published over
an older one. It exits with 1 if a number that was read was wrong, a finished chunk was redone or a byte differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prepkd.errors import InputError
from prepkd.runtime.files import publish
from prepkd.store import LogitStore
from prepkd.store.attributes import Attributes
from prepkd.store.encodings import Encoding, words_of
from prepkd.store.encodings.f16 import F16
from prepkd.store.encodings.i16 import I16
from prepkd.store.encodings.sampled import Sampled
from prepkd.store.encodings.topk import TopK
from prepkd.store.encodings.u8 import U8
from prepkd.store.layout import Layout
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from store_writing import LABELS, PLAN, contents, fork, raw, sections

ENCODINGS: list[Encoding] = [F16(5), U8(5), I16(5), TopK(5, 2), Sampled(5, 3)]
CHUNKS = 9
OLD, NEW = "old", "large"  # the teacher of the replaced store, and the teacher of the store that is written


def logits(teacher: str, view: int, part: slice) -> torch.Tensor:
    """Return a teacher's raw logits."""
    return raw(view, part) if teacher == NEW else 2 * raw(view, part).roll(1, dims=1)


def described(teacher: str, layout: Layout) -> Attributes:
    """Return the attributes of the teacher's store."""
    made = sections(layout)
    return Attributes.made_from(made | {"teacher": {**made["teacher"], "name": teacher}})


def write_and_publish(work: Path, target: Path, layout: Layout, teacher: str = NEW) -> None:
    """Do as `prepkd cache-logits`: resume in scratch, finish, move to the target; do nothing if the store is finished."""
    if teacher in read(target, layout):
        return
    writer = StoreWriter(open_place(work, write=True), layout, described(teacher, layout), work)

    def answer(view: int, part: slice) -> dict[str, torch.Tensor]:
        words = words_of(layout.encoding, layout.plan, view, part)
        return layout.encoding.encode(logits(teacher, view, part), torch.from_numpy(LABELS[part]), words)

    for view, chunk in list(writer.pending()):
        writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
    writer.finish(LABELS)
    publish(work, target)


def read(folder: Path, layout: Layout) -> str:
    """Read the whole store; return "refused" or its teacher, and raise if any number is not that teacher's."""
    try:
        store = LogitStore.open(folder)
        teacher = store.attributes.teacher.name
        for view in range(store.views):
            stored = store.stored(view)
            whole, words = logits(teacher, view, slice(0, 22)), words_of(layout.encoding, layout.plan, view)
            expected = layout.encoding.encode(whole, torch.from_numpy(LABELS), words)
            for name, field in layout.encoding.fields.items():
                if not np.array_equal(stored[name], expected[name].numpy().astype(field.dtype)):
                    raise AssertionError(f"{folder}: view {view}: {name} are not the {teacher} teacher's")
    except InputError:
        return "refused"
    return f"right: {teacher} teacher"


def read_until_told(folders: list[Path], layout: Layout, report: Path) -> None:
    """Read again and again until SIGTERM, then write the counts to a file."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    counts: Counter[str] = Counter()
    while not stopped:
        for folder in folders:
            counts[read(folder, layout)] += 1
    report.write_text(json.dumps(counts))


def ended(child: int) -> int:
    """Wait for a child and return its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finished(folder: Path, layout: Layout) -> dict[str, tuple[int, int]]:
    """Return inode and mtime of all files of each chunk whose commit record, the logits file, exists."""
    found = {}
    for view in range(layout.plan.views):
        for chunk in range(layout.chunks):
            files = layout.keys(view, chunk).values()
            if (folder / layout.keys(view, chunk)["logits"]).exists():
                states = {file: (folder / file).stat() for file in files}  # fails if a file of the chunk is missing
                found |= {file: (state.st_ino, state.st_mtime_ns) for file, state in states.items()}
    return found


def commits(folder: Path) -> int:
    """Return the number of committed chunks."""
    return sum(1 for _ in folder.glob("logits/c/*/*/0"))


def kill_as_a_chunk_appears(child: int, work: Path, chance: random.Random) -> None:
    """Kill the child as one of the next four chunks appears, at the latest with the last chunk."""
    wanted = min(commits(work) + chance.randint(1, 4), CHUNKS)
    while commits(work) < wanted and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        pass
    os.kill(child, signal.SIGKILL)


def kill_at_a_random_moment(child: int, seconds: float, chance: random.Random) -> None:
    """Kill the child at any moment between a writer's start and its end."""
    time.sleep(chance.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)


class Trial:
    """The kills so far, and their results."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.chance = root, random.Random(seed)
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in ("kills", "finished chunks", "reads")}
        self.stores, self.in_time, self.faults = 0, 0, []
        self.layouts = [Layout(PLAN, encoding, 8) for encoding in ENCODINGS]
        self.expected, self.seconds = [], []
        for layout in self.layouts:
            folder = root / layout.encoding.name
            started = time.monotonic()
            assert ended(fork(partial(write_and_publish, folder / "work", folder / "whole.zarr", layout))) == 0
            self.seconds.append(time.monotonic() - started)
            assert ended(fork(partial(write_and_publish, folder / "work", folder / "old.zarr", layout, OLD))) == 0
            self.expected.append(contents(folder / "whole.zarr"))
            assert self.expected[-1] != contents(folder / "old.zarr")

    @property
    def kills(self) -> int:
        """Return the number of killed writers."""
        return sum(self.counts["kills"].values())

    def one_store(self) -> None:
        """Replace a finished store by another, with up to four writers killed on the way."""
        turn = self.stores % len(self.layouts)
        layout, folder = self.layouts[turn], self.root / f"store{self.stores}"
        work, target = folder / "work", folder / "large.zarr"
        shutil.copytree(self.root / layout.encoding.name / "old.zarr", target)
        old = target.stat().st_ino
        self.stores += 1
        reader = fork(partial(read_until_told, [target, work], layout, folder / "reads.json"))
        before: dict[str, tuple[int, int]] = {}
        for _ in range(self.chance.randint(1, 4)):
            child = fork(partial(write_and_publish, work, target, layout))
            moment = ("as a chunk appeared", "at a random moment")[self.kills % 2]
            if moment == "as a chunk appeared":
                kill_as_a_chunk_appears(child, work, self.chance)
            else:
                kill_at_a_random_moment(child, self.seconds[turn], self.chance)
            status = ended(child)
            if status == -signal.SIGKILL:
                self.counts["kills"][moment] += 1
                here = work if work.exists() else target
                if here == work or (target.exists() and target.stat().st_ino != old):
                    self.counts["finished chunks"][str(commits(here))] += 1
                    before = self._kept(before, here, layout)
                else:
                    self.counts["finished chunks"]["0"] += 1
            elif status == 0:
                self.in_time += 1
            else:
                self.faults.append(f"{folder}: a writer ended with {status}")
        if status := ended(fork(partial(write_and_publish, work, target, layout))):
            self.faults.append(f"{folder}: the last writer ended with {status}")
        self._kept(before, target, layout)
        if contents(target) != self.expected[turn]:
            self.faults.append(f"{folder}: its bytes are not those of an uninterrupted run")
        os.kill(reader, signal.SIGTERM)
        if status := ended(reader):
            self.faults.append(f"{folder}: a reader ended with {status}: it read a wrong number, or met another error")
        else:
            self.counts["reads"].update(json.loads((folder / "reads.json").read_text()))
        shutil.rmtree(folder)

    def _kept(self, before: dict[str, tuple[int, int]], folder: Path, layout: Layout) -> dict[str, tuple[int, int]]:
        now = finished(folder, layout)
        self.faults += [f"{folder / file}: redone" for file, state in before.items() if now.get(file) != state]
        return now

    def report(self) -> dict[str, Any]:
        """Return the events for JSON."""
        finished_chunks = sorted(self.counts["finished chunks"].items(), key=lambda item: int(item[0]))
        return {
            "stores": self.stores,
            "kills": dict(sorted(self.counts["kills"].items())),
            "kills by finished chunks": dict(finished_chunks),
            "writers done before their kill": self.in_time,
            "reads meanwhile": dict(sorted(self.counts["reads"].items())),
            "faults": self.faults,
        }


def main() -> None:
    """Kill writers until the number of kills is reached, then print the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        trial = Trial(Path(folder), chosen.seed)
        while trial.kills < chosen.kills:
            trial.one_store()
    print(json.dumps(trial.report(), indent=2))
    sys.exit(bool(trial.faults))


if __name__ == "__main__":
    main()

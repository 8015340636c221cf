"""Three `prepkd cache-logits` on one store, killed with SIGKILL at random instants, round after round; what came of it, as JSON.

`python tests/store/worker_kills.py --rounds 50` trains a tiny teacher of digits, caches its logits once for reference, and
then, in each round: starts three workers, kills one to three of them, in two rounds of three starts a late one, and another
one if none is left. It exits with 1 if a byte of a store differs, a chunk was computed twice, a worker failed or a file is left.
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
from pathlib import Path
from typing import Any

import prepkd.stages.cache_logits
import prepkd.stages.prepare
import prepkd.stages.train_teacher  # noqa: F401 - here once, so that the forks need not
from prepkd.cli import app
from prepkd.store.writer import StoreWriter
from store_writing import contents, fork

PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 10}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet4, epochs: 2, precision: float32}}
cache: {views: all, batch_size: 16, chunk: 16}
distill: {teacher: large, student: convnet4, epochs: 1}
compare: {runs: [kd]}
"""
CHUNKS = 9 * 7


def command(*arguments: str, log: Path) -> int:
    """Run a command in a fork with its output in a file; return the process number."""

    def run() -> None:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(output, stream)
        if code := app([*arguments], standalone_mode=False):
            raise SystemExit(code)

    return fork(run)


def worker(root: Path, scratch: Path, log: Path) -> int:
    """Run a worker in a fork that notes each chunk that it has written; return its process number."""
    write = StoreWriter.write

    def noted(self: StoreWriter, view: int, chunk: int, arrays: Any) -> None:
        write(self, view, chunk, arrays)
        with (root / "chunks").open("a") as file:
            file.write(f"{view}.{chunk}\n")

    os.environ["PREPKD_SCRATCH"] = str(scratch)
    StoreWriter.write = noted  # type: ignore[method-assign]
    try:
        return command("cache-logits", "large", "-S", f"cache.root={root}", log=log)
    finally:
        StoreWriter.write = write  # type: ignore[method-assign]


def ended(child: int) -> int:
    """Wait for a child and return its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def noted(root: Path) -> list[str]:
    """Return the chunks that workers have noted."""
    return (root / "chunks").read_text().split() if (root / "chunks").exists() else []


class Trial:
    """The rounds so far, and their results."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.kills, self.late, self.alone, self.rounds, self.written = Counter[str](), 0, 0, 0, 0
        self.faults: list[str] = []
        (folder / "params.yaml").write_text(PARAMS)
        os.chdir(folder)
        for arguments in (["prepare"], ["train-teacher", "large"]):
            assert ended(command(*arguments, log=folder / "log")) == 0, (folder / "log").read_text()
        started = time.monotonic()
        (folder / "whole").mkdir()
        assert ended(worker(folder / "whole", folder / "scratch", folder / "log")) == 0, (folder / "log").read_text()
        self.seconds = time.monotonic() - started
        self.expected = contents(folder / "whole/large.zarr")
        assert len(noted(folder / "whole")) == CHUNKS

    def one_round(self) -> None:
        """Run three workers, kill one to three of them, and start others later."""
        root, scratch, log = (self.folder / f"round{self.rounds}{end}" for end in ("", "-scratch", "-log"))
        root.mkdir()
        self.rounds += 1
        living = [worker(root, scratch, log) for _ in range(3)]
        victims = self.chance.sample(living, self.chance.randint(1, 3))
        late = self.chance.random() < 2 / 3
        started, statuses = time.monotonic(), []
        for instant, victim in sorted((self.chance.uniform(0, 0.6 * self.seconds), victim) for victim in victims):
            time.sleep(max(0, started + instant - time.monotonic()))
            os.kill(victim, signal.SIGKILL)
            statuses.append(ended(victim))
            quarters = f"{len(noted(root)) * 4 // CHUNKS} quarters of the chunks written"
            self.kills[quarters if statuses[-1] else "came too late"] += 1
            living.remove(victim)
            if late:
                living.append(worker(root, scratch, log))
                self.late, late = self.late + 1, False
        if not living:
            living, self.alone = [worker(root, scratch, log)], self.alone + 1
        statuses += [ended(child) for child in living]
        if set(statuses) - {0, -signal.SIGKILL}:
            self.faults.append(f"round {self.rounds}: exit codes {statuses}: {log.read_text()[-2000:]}")
        self.written += len(noted(root))
        if twice := [chunk for chunk, count in Counter(noted(root)).items() if count > 1]:
            self.faults.append(f"round {self.rounds}: computed twice: {twice}")
        if not (root / "large.zarr").exists() or contents(root / "large.zarr") != self.expected:
            self.faults.append(f"round {self.rounds}: not the bytes of one worker alone")
        if left := [path.name for path in (*scratch.iterdir(), *root.iterdir())]:
            left.remove("chunks"), left.remove("large.zarr")
            self.faults += [f"round {self.rounds}: left over: {left}"] * bool(left)
        for folder in (root, scratch):
            shutil.rmtree(folder, ignore_errors=True)

    def report(self) -> dict[str, Any]:
        """Return the events for JSON."""
        return {
            "rounds": self.rounds,
            "kills": dict(sorted(self.kills.items())),
            "late workers": self.late,
            "rounds without a survivor": self.alone,
            "chunks of all stores": self.rounds * CHUNKS,
            "chunks noted as written": self.written,
            "seconds of one worker alone": round(self.seconds, 2),
            "faults": self.faults,
        }


def main() -> None:
    """Run the rounds and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder).resolve(), chosen.seed)
        for _ in range(chosen.rounds):
            trial.one_round()
        os.chdir("/")
    print(json.dumps(trial.report(), indent=2))
    sys.exit(bool(trial.faults))


if __name__ == "__main__":
    main()

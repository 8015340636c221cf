"""Whole epochs through `prepkd distill` itself, and its start: what loader, store, evaluation and logging add to bare steps."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks._measure import environment, interleaved, interval, median, peak_memory, ratio, report
from benchmarks._project import Project

CLASSES = 100
METHODS = {"plain CE": "ce", "cached KA+DTD": "ka-ps+dtd-flsw"}
# Time as a multiple of that of another case, and what it must stay below. The ceiling evaluates, reads and writes nothing.
BARS = (
    ("plain CE: epoch", "ceiling: epoch", 1.08),
    ("cached KA+DTD: epoch", "ceiling: epoch", 1.08),
    ("cached KA+DTD: epoch", "plain CE: epoch", 1.05),
    ("cached KA+DTD: start", "ceiling: start", 1.3),
    ("cached KA+DTD: whole process", "plain CE: whole process", 1.05),
    ("cached KA+DTD: pause", "cached KA+DTD: step", 1),  # the longest between two epochs, as a share of one step
)
# glibc gives memory back after every step of the bare script, and that slows it by a fifth: a ceiling keeps it.
KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_ARENA_MAX": "1",
}  # as prepkd.runtime.allocator
HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    """Make a project on made-up images, time it, print a table, write JSON."""
    options = parser().parse_args(arguments)
    if options.held_out is None:
        options.held_out = options.samples // 5
    if options.epochs == 1:
        raise SystemExit("--epochs is 1; expected 2 or more, as the first is not counted, or 0: the start alone")
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "folder")}
    result = environment() | {"command": "python -m benchmarks.epoch", "settings": settings}
    result["machine"]["threads"] = options.threads  # of the processes that are measured
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        project = make_project(Path(name), options)
        result |= measure(project, options)
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options; `--samples`, `--epochs` and `--rounds` make a run short."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.epoch", description=__doc__)
    found.add_argument("--student", default="resnet8")
    found.add_argument("--samples", type=int, default=6_400, help="training images")
    found.add_argument("--held-out", type=int, help="images that are evaluated after every epoch; a fifth as many else")
    found.add_argument("--batch-size", type=int, default=128)
    found.add_argument("--epochs", type=int, default=4, help="of a run; the first is not counted; 0: the start alone")
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument("--threads", type=int, default=1, help="torch's CPU threads")
    found.add_argument("--precision", choices=("auto", "float32", "bf16"), default="auto")
    found.add_argument("--folder", type=Path, help="where temporary files go")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def make_project(folder: Path, options: argparse.Namespace) -> Project:
    """A project on made-up images of CIFAR's size."""
    generator = np.random.Generator(np.random.Philox(0))
    with h5py.File(folder / "images.h5", "w") as file:
        for split, count in (("train", options.samples), ("test", options.held_out)):
            file[f"{split}/images"] = generator.integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
            file[f"{split}/labels"] = np.arange(count) % CLASSES
    settings = {
        "threads": options.threads,
        "distill.student": options.student,
        "distill.epochs": options.epochs or 1,
        "distill.batch_size": options.batch_size,
        "distill.precision": options.precision,
    }
    return Project(folder, "h5", folder / "images.h5", settings)


def measure(project: Project, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an epoch, of the start, and of the whole process, of `prepkd distill` and without it."""
    bare = [
        "benchmarks._bare",
        *map(str, (options.student, options.batch_size, options.samples, options.epochs, options.threads)),
        options.precision,
    ]
    commands = {"ceiling": (bare, HERE.parent, {**os.environ, **KEEP_MEMORY})} | {
        title: (
            ["benchmarks._distill", *project.words("distill", distill__method=method)],
            project.folder,
            project.environment | ({} if options.epochs else {"FIRST_STEP_ONLY": "1"}),
        )
        for title, method in METHODS.items()
    }
    times: dict[str, list[dict[str, float]]] = {title: [] for title in commands}

    def case(title: str) -> Callable[[int], object]:
        def run(turn: int) -> None:
            found = timed(*commands[title])
            if turn:
                times[title].append(found)

        return run

    interleaved({title: case(title) for title in commands}, options.rounds, warm_up=options.rounds > 1)
    seconds = {
        f"{title}: {what}": [found[what] for found in rounds] for title, rounds in times.items() for what in rounds[0]
    }
    return {
        "seconds": {name: median(values) for name, values in seconds.items()},
        "ratios": [
            {"time": name, "of": base, "bar": bar, "ratio": ratio(seconds[name], seconds[base])}
            for name, base, bar in BARS
            if name in seconds
        ],
        "peak_memory": peak_memory(),
    }


def timed(words: list[str], folder: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Run one of the scripts: seconds to its first step, between its epochs' reports (median), and in all."""
    path = os.pathsep.join([str(HERE.parent), *filter(None, [environment.get("PYTHONPATH")])])
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": path},
    )
    if done.returncode:
        raise SystemExit(f"{words[0]} failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    started = found["first step"][0] - began
    if len(found["epochs"]) < 2:
        return {"start": started}
    return {
        "start": started,
        "epoch": median([later - one for one, later in pairwise(found["epochs"])]),
        "whole process": time.time() - began,
        **pauses(found.get("steps", []), len(found["epochs"])),
    }


def pauses(steps: list[list[float]], epochs: int) -> dict[str, float]:
    """The median seconds of a computation of gradients, and the longest wait for one that began a later epoch."""
    if not steps:
        return {}
    length = len(steps) // epochs
    waits = [steps[first][0] - steps[first - 1][1] for first in range(length, len(steps), length)]
    return {"step": median([stop - start for start, stop in steps]), "pause": max(waits)}


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    settings, seconds = result["settings"], result["seconds"]
    what = f"{settings['student']}, {settings['samples']:,} images, batch {settings['batch_size']}"
    columns = ("start", "epoch", "whole process", "step", "pause") if settings["epochs"] else ("start",)

    def shown(name: str) -> str:
        return f"{seconds[name]:.3g}" if name in seconds else ""

    return {
        f"{what}: medians of {settings['rounds']} rounds": (
            ("seconds", *columns),
            [[case, *(shown(f"{case}: {column}") for column in columns)] for case in ("ceiling", *METHODS)],
        ),
        "as a multiple": (
            ("time", "of", "multiple (95 % interval)", "to reach"),
            [[one["time"], one["of"], interval(one["ratio"]), f"{one['bar']:g}"] for one in result["ratios"]],
        ),
    }


if __name__ == "__main__":
    main()

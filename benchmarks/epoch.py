"""Time whole epochs of `prepkd distill` and its start: the time that loader, store, evaluation and logging add."""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks._measure import PYTHON, ROOT, environment, interleaved, interval, median, peak_memory, ratio, report
from benchmarks._project import Project, importable, make_images
from benchmarks._timed import FIRST_STEP_ONLY, NOTES
from benchmarks._watched import TRIALS

CLASSES = 100
CEILING, ONCE = "ceiling", ", evaluated once"  # the ceiling evaluates, reads and writes nothing
METHODS = {"plain CE": "ce", "cached KA+DTD": "ka-ps+dtd-flsw"}
# A time as a multiple of another, and the upper limit of that multiple; None: reported only.
BARS = (
    ("plain CE, evaluated once: epoch", "ceiling: epoch", 1.08),
    ("cached KA+DTD, evaluated once: epoch", "ceiling: epoch", 1.08),
    ("plain CE: epoch", "ceiling: epoch", None),
    ("cached KA+DTD: epoch", "ceiling: epoch", None),
    ("plain CE: epoch", "plain CE, evaluated once: epoch", None),  # the cost of evaluation per epoch
    ("cached KA+DTD: epoch", "plain CE: epoch", 1.05),
    ("cached KA+DTD: start", "ceiling: start", 1.5),
    ("cached KA+DTD: whole process", "plain CE: whole process", 1.05),
    # The longest wait between two epochs, as a multiple of a step.
    ("cached KA+DTD, evaluated once: pause", "cached KA+DTD, evaluated once: step", 1),
    ("cached KA+DTD, evaluated once: later pause", "cached KA+DTD, evaluated once: step", None),
)
COLUMNS = ("start", "epoch", "whole process", "step", "pause", "later pause")
# By default glibc returns memory after every step of the bare script, which slows it by a fifth; the ceiling keeps it,
# as prepkd.runtime.allocator does.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1"}


def main(arguments: list[str] | None = None) -> None:
    """Make a project on made-up images, time it, print a table, write JSON."""
    options = parser().parse_args(arguments)
    if options.held_out is None:
        options.held_out = options.samples // 5
    if options.epochs in (1, 2):
        raise SystemExit(
            f"--epochs is {options.epochs}; expected 3 or more, as the first and the last are not counted, or 0: the start"
        )
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "folder")}
    result = environment() | {"command": "python -m benchmarks.epoch", "settings": settings}
    result["machine"]["threads"] = options.threads  # of the processes that are measured
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        project = make_project(Path(name), options)
        result |= measure(project, options)
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options; small `--samples`, `--epochs` and `--rounds` shorten a run."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.epoch", description=__doc__)
    found.add_argument("--student", default="resnet8")
    found.add_argument("--samples", type=int, default=6_400, help="training images")
    found.add_argument("--held-out", type=int, help="images that are evaluated; else a fifth as many")
    found.add_argument("--batch-size", type=int, default=128)
    found.add_argument(
        "--epochs", type=int, default=5, help="of a run; the first and the last are not counted; 0: the start alone"
    )
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument("--threads", type=int, default=1, help="torch's CPU threads")
    found.add_argument("--precision", choices=("auto", "float32", "bf16"), default="auto")
    found.add_argument("--folder", type=Path, help="where temporary files go")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def make_project(folder: Path, options: argparse.Namespace) -> Project:
    """Make a project on made-up images of CIFAR's size."""
    make_images(folder / "images.h5", {"train": options.samples, "test": options.held_out}, 32, CLASSES)
    settings = {
        "threads": options.threads,
        "distill.epochs": options.epochs or 1,
        "distill.batch_size": options.batch_size,
        "distill.precision": options.precision,
    }
    return Project(folder, "h5", folder / "images.h5", settings)


def measure(project: Project, options: argparse.Namespace) -> dict[str, Any]:
    """Measure seconds of the start, of an epoch and of the whole process, for `prepkd distill` and for the bare script."""
    commands = commands_of(project, options)
    notes = project.folder.parent / "notes.json"
    times: dict[str, list[dict[str, float]]] = {title: [] for title in commands}

    def case(title: str) -> Callable[[int], object]:
        def run(turn: int) -> None:
            found = timed(*commands[title], notes, options.epochs)
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
            if {name, base} <= seconds.keys()
        ],
        "peak_memory": peak_memory(),
    }


def commands_of(project: Project, options: argparse.Namespace) -> dict[str, tuple[list[str], Path, dict[str, str]]]:
    """Return the processes to time, by case: words after `python -m`, folder, environment."""
    student = f"benchmarks._timed:{options.student}"
    epochs = options.epochs or 1
    sizes = (options.batch_size, options.samples, epochs, options.threads)
    bare = ["benchmarks._bare", student, *map(str, sizes), options.precision]
    commands = {CEILING: (bare, ROOT, {**os.environ, **KEEP_MEMORY})}
    for evaluated, every in {"": 1, ONCE: epochs}.items() if options.epochs else [("", 1)]:
        for title, method in METHODS.items():
            settings = {"distill__student": student, "distill__method": method, "distill__evaluate_every": every}
            words = ["prepkd", *project.words("distill", "--replace", **settings)]
            commands[title + evaluated] = (words, project.folder, project.environment | {TRIALS: "1"})
    return commands


def timed(words: list[str], folder: Path, variables: Mapping[str, str], notes: Path, epochs: int) -> dict[str, float]:
    """Run a process; return the seconds to its first step, per epoch (median), of the whole process, of steps and pauses."""
    own = {"PYTHONPATH": importable(), NOTES: str(notes)} | ({} if epochs else {FIRST_STEP_ONLY: "1"})
    notes.unlink(missing_ok=True)
    began = time.time()
    done = subprocess.run([PYTHON, "-m", *words], cwd=folder, capture_output=True, text=True, env={**variables, **own})
    whole = time.time() - began
    if done.returncode:
        raise SystemExit(f"{words[0]} failed: {done.stderr[-2000:]}")
    found = json.loads(notes.read_text())
    start = {"start": found["first step"][0] - began}
    if not epochs:
        return start
    assert len(found["epochs"]) == epochs
    lengths = [later - one for one, later in pairwise(found["epochs"])]
    return start | {"epoch": median(lengths[1:]), "whole process": whole} | pauses(found["steps"], epochs)


def pauses(steps: list[list[float]], epochs: int) -> dict[str, float]:
    """Return the seconds of a step's forward and backward pass (median), and of the longest wait between two epochs' steps.

    "later pause" is the longest except for the first one, in which modules are imported.
    """
    if not steps:
        return {}
    length = len(steps) // epochs
    waits = [steps[first][0] - steps[first - 1][1] for first in range(length, len(steps), length)]
    step = median([stop - start for start, stop in steps])
    return {"step": step, "pause": max(waits), "later pause": max(waits[1:])}


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    settings, seconds = result["settings"], result["seconds"]
    what = f"{settings['student']}, {settings['samples']:,} images, batch {settings['batch_size']}"
    cases = list(dict.fromkeys(name.partition(": ")[0] for name in seconds))
    columns = [column for column in COLUMNS if any(f"{case}: {column}" in seconds for case in cases)]

    def shown(name: str) -> str:
        return f"{seconds[name]:.3g}" if name in seconds else ""

    return {
        f"{what}: medians of {settings['rounds']} rounds": (
            ("seconds", *columns),
            [[case, *(shown(f"{case}: {column}") for column in columns)] for case in cases],
        ),
        "as a multiple": (
            ("time", "of", "multiple (95 % interval)", "to reach"),
            [
                [one["time"], one["of"], interval(one["ratio"]), "" if one["bar"] is None else f"{one['bar']:g}"]
                for one in result["ratios"]
            ],
        ),
    }


if __name__ == "__main__":
    main()

"""Whole epochs through `prepkd distill` itself, and its start: what loader, store, evaluation and logging add to bare steps."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks._measure import environment, interleaved, interval, median, peak_memory, ratio, report

CLASSES = 100
SHORT = 1  # epochs of the shorter run of each pair: its seconds but one epoch's are the start and the end
METHODS = {"plain CE": "ce", "cached KA+DTD": "ka-ps+dtd-flsw"}
BARS = {"cached KA+DTD": ("plain CE", 1.05), "plain CE": ("ceiling", 1.08), "distill": ("bare script", 1.3)}
HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    """Make a project on made-up images, time it, print a table, write JSON."""
    options = parser().parse_args(arguments)
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "folder")}
    result = environment() | {"command": "python -m benchmarks.epoch", "settings": settings}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        project = Project(Path(name), options)
        result |= measure(project, options)
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options; `--samples`, `--epochs` and `--rounds` make a run short."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.epoch", description=__doc__)
    found.add_argument("--student", default="resnet8")
    found.add_argument("--samples", type=int, default=12_800, help="training images; a fifth as many are held out")
    found.add_argument("--batch-size", type=int, default=128)
    found.add_argument("--epochs", type=int, default=4, help=f"of the longer run; the shorter one has {SHORT}")
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument("--threads", type=int, default=1, help="torch's CPU threads")
    found.add_argument("--precision", choices=("auto", "float32", "bf16"), default="auto")
    found.add_argument("--folder", type=Path, help="where temporary files go")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


class Project:
    """A project on made-up images of CIFAR's size, with a store of two views."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder / "project", options
        generator = np.random.Generator(np.random.Philox(0))
        with h5py.File(folder / "images.h5", "w") as file:
            for split, count in (("train", options.samples), ("test", options.samples // 5)):
                file[f"{split}/images"] = generator.integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
                file[f"{split}/labels"] = np.arange(count) % CLASSES
        raw = str(folder / "images.h5")
        self.run("init", str(self.folder), "--dataset", "h5", "--raw", raw, "--student", options.student, "--no-git")
        self.settings = {
            "threads": options.threads,
            "teachers.teacher.model": "convnet4",  # nobody's business here: its answers are read from the store
            "teachers.teacher.epochs": 1,
            "teachers.teacher.schedule": "cosine",
            "teachers.teacher.milestones": "[]",
            "cache.views": 2,
            "distill.seeds": 1,
            "distill.schedule": "cosine",
            "distill.milestones": "[]",
            "distill.batch_size": options.batch_size,
            "distill.precision": options.precision,
        }
        for stage in (["prepare"], ["train-teacher", "teacher"], ["cache-logits", "teacher"]):
            self.stage(*stage)

    def stage(self, *words: str, **settings: object) -> None:
        """Run a stage with this project's settings and some of its own (`distill__epochs=1`)."""
        changed = self.settings | {key.replace("__", "."): value for key, value in settings.items()}
        self.run(*words, *(word for key, value in changed.items() for word in ("-S", f"{key}={value}")))

    def run(self, *words: str) -> None:
        """Run `prepkd`."""
        command = [sys.executable, "-c", "from prepkd.cli import main; main()", *words]
        folder = self.folder if self.folder.exists() else self.folder.parent
        subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment_of(folder))


def environment_of(folder: Path) -> dict[str, str]:
    """This process's environment, with unfinished work kept beside the project."""
    return {**os.environ, "PREPKD_SCRATCH": str(folder / "scratch")}


def measure(project: Project, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an epoch, of the start, and of both without prepkd around them."""

    def script(name: str, epochs: int) -> Callable[[int], object]:
        words = [f"benchmarks.{name}", options.student, options.batch_size, options.samples, epochs, options.threads]
        command = [sys.executable, "-m", *map(str, words), options.precision]
        return lambda turn: subprocess.run(command, cwd=HERE.parent, check=True, capture_output=True)

    cases: dict[str, Callable[[int], object]] = {}
    for epochs in (SHORT, options.epochs):
        cases[f"ceiling, {epochs}"] = script("_bare", epochs)
        for title, method in METHODS.items():
            cases[f"{title}, {epochs}"] = lambda turn, method=method, epochs=epochs: project.stage(
                "distill", distill__method=method, distill__epochs=epochs
            )
    cases["bare script"] = script("_bare", 0)
    seconds = interleaved(cases, options.rounds, warm_up=options.rounds > 1)
    more = options.epochs - SHORT
    epoch = {
        title: [
            (long - short) / more
            for short, long in zip(seconds[f"{title}, {SHORT}"], seconds[f"{title}, {options.epochs}"], strict=True)
        ]
        for title in ("ceiling", *METHODS)
    }
    start = {
        "distill": [
            short - SHORT * one
            for short, one in zip(seconds[f"cached KA+DTD, {SHORT}"], epoch["cached KA+DTD"], strict=True)
        ],
        "bare script": seconds["bare script"],
    }
    times = epoch | start
    return {
        "seconds": {title: median(values) for title, values in times.items()},
        "ratios": {
            title: {"of": base, "bar": bar, "ratio": ratio(times[title], times[base])}
            for title, (base, bar) in BARS.items()
        },
        "peak_memory": peak_memory(),
    }


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    settings, seconds = result["settings"], result["seconds"]
    rows = []
    for title, value in seconds.items():
        against = result["ratios"].get(title)
        shown = [interval(against["ratio"]), against["of"], f"{against['bar']:g}"] if against else ["", "", ""]
        rows.append([title, f"{value:.2f}", *shown])
    what = f"{settings['student']}, {settings['samples']:,} images, batch {settings['batch_size']}"
    header = ("an epoch; a start", "seconds", "as a multiple (95 % interval)", "of", "to reach")
    return {f"{what}, {settings['rounds']} rounds": (header, rows)}


if __name__ == "__main__":
    main()

"""A project on given images, made by `prepkd init`, with a small teacher and its store."""

import csv
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from benchmarks._measure import PYTHON, ROOT

# A minimal teacher: the benchmarks only read its logits from the store.
SHORT = {
    "teachers.teacher.model": "convnet4",
    "teachers.teacher.epochs": 1,
    "teachers.teacher.schedule": "cosine",
    "teachers.teacher.milestones": "[]",
    "cache.views": 2,
    "distill.seeds": 1,
    "distill.schedule": "cosine",
    "distill.milestones": "[]",
    "distill.checkpoint_every": 1,
}


class Project:
    """A project in `folder/project` on raw data (digits have none), with a store of two views.

    `settings` override those of `init`.
    """

    def __init__(self, folder: Path, dataset: str, raw: Path | None, settings: Mapping[str, object]) -> None:
        self.folder, self.settings = folder / "project", SHORT | settings
        self.data = self.folder / f"data/{dataset}.h5"
        self.environment = {**os.environ, "PREPKD_SCRATCH": str(folder / "scratch")}
        given = [] if raw is None else ["--raw", str(raw)]
        self.run("init", str(self.folder), "--dataset", dataset, *given, "--no-git")
        for stage in (["prepare"], ["train-teacher", "teacher"], ["cache-logits", "teacher"]):
            self.run(*self.words(*stage))

    def words(self, *stage: str, **settings: object) -> list[str]:
        """Return the command line of a stage with this project's settings, and overrides as `distill__method="ce"`."""
        changed = self.settings | {key.replace("__", "."): value for key, value in settings.items()}
        return [*stage, *(word for key, value in changed.items() for word in ("-S", f"{key}={value}"))]

    def run(self, *words: str) -> None:
        """Run `prepkd`; a failure ends the benchmark."""
        command = [PYTHON, "-c", "from prepkd.cli import main; main()", *words]
        folder = self.folder if self.folder.exists() else self.folder.parent
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=self.environment)
        if done.returncode:
            raise SystemExit(f"prepkd {words[0]} failed: {done.stderr[-2000:]}")


def make_images(path: Path, splits: Mapping[str, int], side: int, classes: int) -> None:
    """Write a file for `prepare.dataset: h5`: noise images of `side` x `side`, `splits` gives their number; labels cycle."""
    draw = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for split, count in splits.items():
            file[f"{split}/images"] = draw.integers(0, 256, (count, side, side, 3), np.uint8)
            file[f"{split}/labels"] = np.arange(count) % classes


def logged_rates(project: Project) -> list[float]:
    """Return the images per second of each epoch of the last training, as `distill` logs them."""
    log = next((project.folder / "results/training/seed0").rglob("samples_per_second.tsv"))
    with log.open() as file:
        return [float(row["samples_per_second"]) for row in csv.DictReader(file, delimiter="\t")]


def importable() -> str:
    """Return the PYTHONPATH that lets a process in any folder import `benchmarks`."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

"""Compare a live teacher in every step, in RepDistiller's own loop and in prepkd's, with cached logits from a store.

    PYTHONPATH=$PWD/examples python -m benchmarks.live_teacher --repdistiller FOLDER

FOLDER is a clone of github.com/HobbitLong/RepDistiller; its loop (helper/loops.py) and loss (distiller_zoo/KD.py) run with
prepkd's models, its transforms and PyTorch's DataLoader without workers. Without it this case is left out. Images are made up.
"""

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import torch
from prepkd.models import build_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks._measure import environment, median, ratio, report
from benchmarks._project import Project, logged_rates, make_images
from benchmarks.plan import plan

CLASSES, BATCH, TAU, VIEWS = 100, 128, 4.0, 2
PEER, CACHED = "RepDistiller's loop", "prepkd, cached"
CASES = {f"{CACHED}, float32": ("cached", "float32"), "prepkd, online, float32": ("online", "float32")}
CASES |= {f"{CACHED}, bf16": ("cached", "bf16"), "prepkd, online, bf16": ("online", "bf16")}


def main(arguments: list[str] | None = None) -> None:
    """Time an epoch of each case in turn, print tables, write JSON."""
    options = parser().parse_args(arguments)
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "repdistiller")}
    result = environment() | {"command": "python -m benchmarks.live_teacher", "settings": settings}
    result["machine"]["threads"] = 1
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        result |= measured(Path(name), options)
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.live_teacher", description=__doc__)
    found.add_argument("--teacher", default="distiller_resnet:resnet32")
    found.add_argument("--student", default="resnet8")
    found.add_argument("--samples", type=int, default=12_800, help="images of an epoch")
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--trainings", type=int, default=50, help="of the table whose cost is computed")
    found.add_argument("--epochs", type=int, default=30, help="of each of them")
    found.add_argument("--images", type=int, default=50_000, help="of its training set")
    found.add_argument("--views", type=int, default=32, help="that its store has")
    found.add_argument("--repdistiller", type=Path, help="a clone of the peer's repository")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def measured(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure images per second of the cases by round, and of the teacher alone."""
    made = folder / "images.h5"
    make_images(made, {"train": options.samples, "test": CLASSES}, 32, CLASSES)
    with h5py.File(made) as file:
        images, labels = file["train/images"][:], file["train/labels"][:]
    project = Project(folder, "h5", made, settings_of(options))
    rates: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        if options.repdistiller is not None:
            seconds = peer_epoch(options, images, labels)
            rates.setdefault(PEER, []).append(options.samples / seconds)
        for case, (source, precision) in CASES.items():
            changed = {"distill__source": source, "distill__precision": precision}
            # Finished students stay in scratch and would be restored instead of trained again.
            shutil.rmtree(project.environment["PREPKD_SCRATCH"])
            project.run(*project.words("distill", "--replace", **changed))
            rates.setdefault(case, []).append(logged_rates(project)[-1])
    teacher = teacher_rate(project, options.samples)
    return {"images_per_second": rates, "teacher_images_per_second": teacher}


def settings_of(options: argparse.Namespace) -> dict[str, object]:
    """Return the project's settings: two epochs, of which the first, in which modules are imported, is not counted."""
    return {
        "threads": 1,
        "augment": "[{crop: {padding: 4}}, flip]",
        "teachers.teacher.model": options.teacher,
        "teachers.teacher.precision": "bf16",
        "distill.student": options.student,
        "distill.batch_size": BATCH,
        "distill.epochs": 2,
        "distill.evaluate_every": 2,
        "cache.views": VIEWS,
        "cache.precision": "bf16",
        "cache.batch_size": 256,
    }


def teacher_rate(project: Project, samples: int) -> float:
    """Return the teacher's images per second while a store is written, as timed by `prepkd plan --measure`."""
    return samples * VIEWS / (3600 * float(plan(project, "--measure")["teacher_hours"]))


class Pictures(Dataset[tuple[Tensor, int, int]]):
    """Images from arrays with RepDistiller's transforms: (image, label, index), as its loop expects."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        norm = transforms.Normalize((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(), norm]
        self.transform = transforms.Compose([transforms.ToPILImage(), *steps])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        """Return an image, newly augmented, with its label and index."""
        return self.transform(self.images[index]), int(self.labels[index]), index


class WithFeatures(nn.Module):
    """A model with the call signature of RepDistiller's models: (features, logits)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, is_feat: bool, preact: bool) -> tuple[list[Tensor], Tensor]:
        """Return no features, because KD reads none, and the logits (B, K)."""
        return [], self.model(x)


def peer_epoch(options: argparse.Namespace, images: np.ndarray, labels: np.ndarray) -> float:
    """Time an epoch of RepDistiller's loop, with its loss weights for KD; returns seconds."""
    sys.path.insert(0, str(options.repdistiller))
    try:
        from distiller_zoo.KD import DistillKL
        from helper.loops import train_distill
    finally:
        sys.path.pop(0)
    student, teacher = (WithFeatures(build_model(name, CLASSES)) for name in (options.student, options.teacher))
    criteria = [nn.CrossEntropyLoss(), DistillKL(TAU), nn.Identity()]
    optimizer = torch.optim.SGD(student.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    given = SimpleNamespace(distill="kd", gamma=0.1, alpha=0.9, beta=0.0, print_freq=1_000_000)
    loader = DataLoader(Pictures(images, labels), BATCH, shuffle=True)
    with contextlib.redirect_stdout(io.StringIO()):
        few = DataLoader(Pictures(images[: 4 * BATCH], labels), BATCH, shuffle=True)
        train_distill(0, few, [student, teacher], criteria, optimizer, given)  # warms up
        started = time.perf_counter()
        train_distill(1, loader, [student, teacher], criteria, optimizer, given)
    return time.perf_counter() - started


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows: rates, and the cost of a whole table of trainings at these rates."""
    rates, settings = result["images_per_second"], result["settings"]
    base = rates[f"{CACHED}, bf16"]
    shown, costs = [], []
    trained = settings["trainings"] * settings["epochs"] * settings["images"]
    caching = settings["views"] * settings["images"]
    for case, found in rates.items():
        times = ratio(base, found)
        shown.append(
            [case, f"{median(found):,.0f}", f"{times['median']:.2f} ({times['low']:.2f} to {times['high']:.2f})"]
        )
        asked, hours = (
            (caching, caching / result["teacher_images_per_second"] / 3600) if CACHED in case else (trained, 0)
        )
        whole = hours + trained / median(found) / 3600
        costs.append([case, f"{asked / settings['images']:,.0f}", f"{hours:.1f}", f"{whole:.1f}"])
    pair = f"{settings['teacher'].split(':')[-1]} to {settings['student']}"
    what = f"{settings['trainings']} trainings of {settings['epochs']} epochs of {settings['images']:,} images"
    return {
        f"{pair}, {settings['samples']:,} images, {settings['rounds']} rounds": (
            ("an epoch of", "images/s", "its time / cached, bf16"),
            shown,
        ),
        f"{what}, {settings['views']} views cached: hours of one core, computed": (
            ("", "teacher's passes", "caching, h", "all, h"),
            costs,
        ),
    }


if __name__ == "__main__":
    main()

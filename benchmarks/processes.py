"""Compare several processes under torchrun with one: bytes and seconds of caching; weights, accuracy and predictions of
students.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from prepkd.data.prepared.file import load_split
from prepkd.models import load_checkpoint
from prepkd.store.identity import manifest_sha256
from safetensors.torch import load_file

from benchmarks._measure import environment, median, report
from benchmarks._project import Project, make_images

CONTROL = "1, lr + 1e-6"  # one process with lr * (1 + 1e-6)
# A logit method, methods whose loss relates the samples of a batch, and one with adapters and a bank.
METHODS = ("ka-ps+dtd-flsw", "dist", "kd+rkd", "kd+crd")
DIGITS: dict[str, object] = {
    "teachers.teacher.model": "resnet8",
    "teachers.teacher.epochs": 8,
    "teachers.teacher.lr": 0.05,
    "distill.student": "convnet16",
    "distill.source": "online",
    "distill.precision": "float32",
    "teachers.teacher.precision": "float32",
    "threads": 1,
}


def main(arguments: list[str] | None = None) -> None:
    """Measure caching, train the students, print tables, write JSON."""
    options = parser().parse_args(arguments)
    result = environment() | {"command": "python -m benchmarks.processes"}
    result |= {
        "settings": {"epochs": options.epochs, "lr": options.lr, "samples": options.samples, "rounds": options.rounds}
    }
    with tempfile.TemporaryDirectory() as folder:
        result["caching"] = caching(Path(folder) / "caching", options) if options.samples else {}
        settings = DIGITS | {"distill.epochs": options.epochs, "distill.lr": options.lr}
        project = Project(Path(folder), "digits", None, settings)
        result["methods"] = {
            method: compared(project, method, options.processes) for method in options.method or METHODS
        }
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    found.add_argument("--method", action="append", default=None, help="repeatable; else four")
    found.add_argument("--processes", type=int, nargs="+", default=[2, 3], help="numbers to compare with one process")
    found.add_argument("--epochs", type=int, default=8)
    found.add_argument("--lr", type=float, default=0.05)
    found.add_argument("--samples", type=int, default=16_384, help="images that are cached under two views; 0: none")
    found.add_argument("--rounds", type=int, default=3, help="of caching")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def caching(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of writing a store (median of the rounds) and its manifest's hash, by number of processes."""
    folder.mkdir()
    make_images(folder / "images.h5", {"train": options.samples, "test": 100}, 32, 100)
    settings = {"threads": 1, "teachers.teacher.model": "resnet20", "cache.chunk": 1024}
    project = Project(folder, "h5", folder / "images.h5", settings | {"augment": "[{crop: {padding: 4}}, flip]"})
    seconds: dict[int, list[float]] = {count: [] for count in (1, *options.processes)}
    sha256: dict[int, str] = {}
    for _ in range(options.rounds):
        for count, found in seconds.items():
            shutil.rmtree(project.folder / "data/logits")
            said = launched(project, count, project.words("cache-logits", "teacher")).stderr
            found.append(float(re.findall(r"chunks written in ([\d,.]+) s", said)[0].replace(",", "")))
            sha256[count] = manifest_sha256(str(project.folder / "data/logits/teacher.zarr"))
    return {
        str(count): {"seconds": median(found), "all_seconds": found, "manifest_sha256": sha256[count]}
        for count, found in seconds.items()
    }


def launched(project: Project, count: int, words: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command in this number of processes of one thread; a failure ends the benchmark."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "-m", "prepkd", *words]
    variables = project.environment | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(launch, cwd=project.folder, capture_output=True, text=True, env=variables)
    if done.returncode:
        raise SystemExit(f"{count} processes failed: {done.stderr[-2000:]}")
    return done


def compared(project: Project, method: str, processes: list[int]) -> dict[str, Any]:
    """Compare the students of several processes with that of one process, by number of processes."""
    one = student(project, method, 1)
    found: dict[str, Any] = {"1": {"test_top1": one[1]}}
    lr = float(str(project.settings["distill.lr"]))
    others = {CONTROL: (1, lr * (1 + 1e-6))} | {str(count): (count, lr) for count in processes}
    for name, (count, used) in others.items():
        weights, accuracy, logits = student(project, method, count, used)
        moved = max((weights[key].float() - value.float()).abs().max().item() for key, value in one[0].items())
        same = (logits.argmax(1) == one[2].argmax(1)).float().mean().item()
        found[name] = {"test_top1": accuracy, "weights": moved, "same_predictions": same}
    return found


def student(
    project: Project, method: str, count: int, lr: float | None = None
) -> tuple[dict[str, torch.Tensor], float, torch.Tensor]:
    """Train a student in this number of processes; returns its weights, its test top-1 and its test logits (N, K)."""
    # Finished students stay in scratch and would be reused for another number of processes: the run is the same.
    shutil.rmtree(project.environment["PREPKD_SCRATCH"])
    changed = {} if lr is None else {"distill__lr": lr}
    words = project.words("distill", "--replace", distill__method=method, **changed)
    launched(project, count, words)
    folder = project.folder / "models/student/seed0"
    model, card = load_checkpoint(folder)
    pixels = test_images(project)
    with torch.inference_mode():
        return load_file(folder / "model.safetensors"), card["test_top1"], model.eval()(pixels)


def test_images(project: Project) -> torch.Tensor:
    """Return the test images, float32 (N, C, H, W) in [0, 1]."""
    images = load_split(project.data, "test").images
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def tables(result: dict[str, Any]) -> dict[str, tuple[tuple[str, ...], list[list[str]]]]:
    """Title -> header and rows."""
    found_tables: dict[str, tuple[tuple[str, ...], list[list[str]]]] = {}
    if cached := result["caching"]:
        one = cached["1"]
        rows = [
            [
                count,
                f"{found['seconds']:.1f}",
                f"{one['seconds'] / found['seconds']:.2f}",
                ""
                if count == "1"
                else "equal"
                if found["manifest_sha256"] == one["manifest_sha256"]
                else "**different**",
            ]
            for count, found in cached.items()
        ]
        header = ("processes", "seconds", "times as fast", "manifest, which has every chunk's hash")
        found_tables["Caching in several processes, resnet20, one thread each"] = (header, rows)
    lines = []
    for method, found in result["methods"].items():
        for count, one in found.items():
            moved = f"{one['weights']:.0e}" if "weights" in one else ""
            same = f"{one['same_predictions']:.1%}" if "same_predictions" in one else ""
            lines.append([f"`{method}`", count, f"{one['test_top1']:.2%}", moved, same])
    header = ("method", "processes", "test top-1", "largest change of a weight", "equal predictions")
    return found_tables | {"Students of several processes, digits, against one process": (header, lines)}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

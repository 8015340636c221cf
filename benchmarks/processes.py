"""Students of one, two and three processes under torchrun: the distance of their weights, accuracy, equal predictions."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from prepkd.data.prepared.file import load_split
from prepkd.models import load_checkpoint
from safetensors.torch import load_file

from benchmarks._measure import environment, report
from benchmarks._project import Project

# A logit method, one whose loss relates the samples of a batch, one with adapters and a bank.
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
    """Train them, print a table, write JSON."""
    options = parser().parse_args(arguments)
    result = environment() | {"command": "python -m benchmarks.processes"}
    result |= {"settings": {"epochs": options.epochs, "lr": options.lr}}
    with tempfile.TemporaryDirectory() as folder:
        settings = DIGITS | {"distill.epochs": options.epochs, "distill.lr": options.lr}
        project = Project(Path(folder), "digits", None, settings)
        result["methods"] = {method: compared(project, method, options.processes) for method in options.method}
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    found.add_argument("--method", action="append", default=None, help="repeatable")
    found.add_argument("--processes", type=int, nargs="+", default=[2, 3], help="numbers to compare with one process")
    found.add_argument("--epochs", type=int, default=8)
    found.add_argument("--lr", type=float, default=0.05)
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    found.set_defaults(method=list(METHODS))
    return found


def compared(project: Project, method: str, processes: list[int]) -> dict[str, Any]:
    """One process's student, and by number of processes what differs from it."""
    one = student(project, method, 1)
    found: dict[str, Any] = {"1": {"test_top1": one[1]}}
    for count in processes:
        weights, accuracy, logits = student(project, method, count)
        moved = max((weights[name].float() - value.float()).abs().max().item() for name, value in one[0].items())
        same = (logits.argmax(1) == one[2].argmax(1)).float().mean().item()
        found[str(count)] = {"test_top1": accuracy, "weights": moved, "same_predictions": same}
    return found


def student(project: Project, method: str, count: int) -> tuple[dict[str, torch.Tensor], float, torch.Tensor]:
    """The weights of a student trained by this number of processes, its test top-1 and its test logits (N, K)."""
    # What is finished stays in scratch, and would be taken for the student of another number of processes, whose run it is.
    shutil.rmtree(project.environment["PREPKD_SCRATCH"])
    words = project.words("distill", "--replace", distill__method=method)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "-m", "prepkd", *words]
    variables = project.environment | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, cwd=project.folder, capture_output=True, text=True, env=variables)
    if done.returncode:
        raise SystemExit(f"{count} processes failed: {done.stderr[-2000:]}")
    folder = project.folder / "models/student/seed0"
    model, card = load_checkpoint(folder)
    pixels = test_images(project)
    with torch.inference_mode():
        return load_file(folder / "model.safetensors"), card["test_top1"], model.eval()(pixels)


def test_images(project: Project) -> torch.Tensor:
    """The test images, float32 (N, C, H, W) in [0, 1]."""
    images = load_split(project.data, "test").images
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def tables(result: dict[str, Any]) -> dict[str, tuple[tuple[str, ...], list[list[str]]]]:
    """The table, by title."""
    lines = []
    for method, found in result["methods"].items():
        for count, one in found.items():
            moved = f"{one['weights']:.0e}" if "weights" in one else ""
            same = f"{one['same_predictions']:.1%}" if "same_predictions" in one else ""
            lines.append([f"`{method}`", count, f"{one['test_top1']:.2%}", moved, same])
    header = ("method", "processes", "test top-1", "largest change of a weight", "equal predictions")
    return {"Students of several processes, digits, against one process": (header, lines)}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

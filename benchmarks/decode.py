"""Encoded images of differing sizes: prepkd's training batches against a plain torchvision DataLoader over the same files."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources import SOURCES
from prepkd.runtime.allocator import keep_freed_memory

from benchmarks._decoding import loaded, ours
from benchmarks._measure import environment, interleaved, interval, median, peak_memory, ratio, report
from benchmarks._project import Project, importable
from benchmarks._watched import TRIALS

BAR = 0.9
RECIPE = [{"resized-crop": {"size": 64}}, "flip"]
CLASSES = 10
MB = 1_000_000


def main(arguments: list[str] | None = None) -> None:
    """Make or take a folder of images, measure both loaders and the run with bounded memory; print tables, write JSON."""
    options = parser().parse_args(arguments)
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "folder", "images")}
    result = environment() | {"command": "python -m benchmarks.decode", "settings": settings, "bar": BAR}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        raw = options.images or make_images(Path(name) / "images", options)
        prepared = Path(name) / "images.h5"
        prepare(SOURCES["folder"].read(raw), val_fraction=0, subset=None, seed=0, path=prepared)
        result |= measure(raw, prepared, options)
        result["bounded"] = bounded(many(raw, Path(name), options.bounded_megabytes), Path(name), options)
    result["peak_memory"] = peak_memory()
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options; small `--count` and `--rounds` shorten a run."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__)
    found.add_argument(
        "--images", type=Path, help="a folder with train/CLASS/* and val/CLASS/*; else images are made up"
    )
    found.add_argument("--count", type=int, default=1_024, help="made-up JPEG files; and images of a round")
    found.add_argument("--side", type=int, default=400, help="of made-up images, at most; the least is half of it")
    found.add_argument("--batch-size", type=int, default=64)
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument("--workers", type=int, default=os.cpu_count(), help="of the DataLoader")
    found.add_argument(
        "--limit", type=int, default=256, help="MB of memory for the bounded run, beside what starting takes"
    )
    found.add_argument("--bounded-megabytes", type=int, default=1_000, help="of data in the bounded run, at least")
    found.add_argument("--folder", type=Path, help="where temporary files go")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def make_images(folder: Path, options: argparse.Namespace) -> Path:
    """Write JPEG files of smooth noise, of differing sizes, in CLASSES folders; their bytes are those of photographs."""
    generator = np.random.Generator(np.random.Philox(0))
    for split, count in (("train", options.count), ("val", 2 * CLASSES)):
        for number in range(count):
            path = folder / split / f"class{number % CLASSES}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            height, width = generator.integers(options.side // 2, options.side + 1, 2).tolist()
            coarse = generator.integers(256, size=(height // 4, width // 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR).save(path, quality=90)
    return folder


def measure(raw: Path, prepared: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure images per second of both loaders, over the same number of images."""
    cases: dict[str, Callable[[int], object]] = {
        "torchvision DataLoader": loaded(raw, options.batch_size, options.count, options.workers),
        "prepkd": ours(prepared, RECIPE, options.batch_size, options.count),
    }
    torch.set_num_threads(1)
    keep_freed_memory()
    seconds = interleaved(cases, options.rounds)
    return {
        "images_per_second": {name: options.count / median(times) for name, times in seconds.items()},
        # The ratio of speeds is the inverse ratio of times.
        "ratio": ratio(seconds["torchvision DataLoader"], seconds["prepkd"]),
    }


def many(raw: Path, folder: Path, megabytes: int) -> Path:
    """Copy the training images under other names until they take at least `megabytes`."""
    files = sorted((raw / "train").rglob("*.*"))
    times = -(-megabytes * MB // sum(file.stat().st_size for file in files))
    for file in files:
        for number in range(times):
            copy = folder / "many/train" / file.parent.name / f"{number}-{file.name}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    shutil.copytree(raw / "val", folder / "many/val")
    return folder / "many"


def bounded(raw: Path, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run one epoch of `prepkd distill` on data larger than its process's memory limit."""
    settings = {
        "threads": 1,
        "augment": "[{resized-crop: {size: 64}}, flip]",
        "cache.batch_size": options.batch_size,  # memory is a few batches of pixels, for any data
        "distill.method": "ka-ps+dtd-flsw",
        "distill.epochs": 1,
        "distill.batch_size": options.batch_size,
    }
    project = Project(folder, "folder", raw, settings)
    words = project.words("distill", distill__student="benchmarks._held:convnet4")
    command = [sys.executable, "-m", "benchmarks._bounded", str(options.limit), str(project.data), *words]
    variables = project.environment | {"PYTHONPATH": importable(), TRIALS: "1"}
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, env=variables)
    if done.returncode:
        raise SystemExit(f"the bounded run failed: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    speeds, bound = result["images_per_second"], result["bounded"]
    rows = [[name, f"{speed:,.0f}", ""] for name, speed in speeds.items()]
    rows[-1][-1] = f"{interval(result['ratio'])}, to reach {result['bar']}"
    header = ("an epoch, decoded and rendered", "images/s", "share of the DataLoader's speed (95 % interval)")
    return {
        f"{result['settings']['count']:,} images, batches of {result['settings']['batch_size']}": (header, rows),
        "`prepkd distill`, an epoch under a limit of private memory": (
            ("data, MB", "images", "limit above start, MB", "peak above start, MB", "peak of the whole process, MB"),
            [[f"{bound[key]:,.0f}" for key in ("data", "images", "limit", "peak", "rss")]],
        ),
    }


if __name__ == "__main__":
    main()

"""Speed of the store: writing, reading and looking up views, and the time that cache-logits adds to the teacher's pass."""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from prepkd.runtime.allocator import keep_freed_memory

from benchmarks import _caching, _views
from benchmarks._datasets import made_up, real
from benchmarks._measure import environment, interval, report

BARS = {"read": 0.15, "write": 0.5, "cache": 1.05}
DIGITS = ("resnet8", (1, 8, 8), 10, 9)  # the demo's teacher, images, classes and views


def main(arguments: list[str] | None = None) -> None:
    """Measure, print tables, write JSON."""
    options = parser().parse_args(arguments)
    if (options.data is None) != (options.teacher is None):
        raise SystemExit("--data and --teacher go together")
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    settings = {key: value for key, value in vars(options).items() if isinstance(value, int)}
    result = environment() | {"command": "python -m benchmarks.store", "settings": settings, "bars": BARS}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        sizes = {"samples": options.size, "views": options.views}
        result |= _views.measure(Path(name), **sizes, rounds=options.rounds, file_rounds=options.file_rounds)
        result["cache"] = {title: caching(Path(name), title, options) for title in ("CIFAR-100", "digits")}
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options; small `--size` and `--samples` shorten a run."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    found.add_argument("--data", type=Path, help="a prepared file of CIFAR, for cache-logits; else images are made up")
    found.add_argument("--teacher", type=Path, help="its teacher's checkpoint")
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument(
        "--file-rounds", type=int, default=3, help="rounds of one torch.save file per sample, which is slow"
    )
    found.add_argument("--size", type=int, default=50_000, help="samples of the views that are read and written")
    found.add_argument("--views", type=int, default=8, help="views of the store that is read")
    found.add_argument("--samples", type=int, default=5_120, help="CIFAR images for cache-logits")
    found.add_argument("--cache-views", type=int, default=2, help="views of them")
    found.add_argument("--digits-samples", type=int, default=901, help="images of the size of the demo's")
    found.add_argument("--threads", type=int, default=1, help="torch's CPU threads")
    found.add_argument("--folder", type=Path, help="where temporary files go: the disk that is measured")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def caching(folder: Path, title: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time cache-logits against the bare teacher, on CIFAR's images (synthetic without --data) or on images like digits."""
    started = time.perf_counter()
    if title == "digits":
        dataset = made_up(*DIGITS, options.digits_samples)
    elif options.data:
        dataset = real(options.data, options.teacher, options.cache_views, options.samples)
    else:
        dataset = made_up("resnet20", (3, 32, 32), 100, options.cache_views, options.samples)
    return _caching.measure(*dataset, folder, options.rounds, time.perf_counter() - started)


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    found: dict[str, Any] = {}
    size, rows = f"{result['settings']['size']:,} samples", result["lookup_rows"]
    titles = {
        "read": f"read: one view of {size}, milliseconds; speed as a share of a warm memory map",
        "write": f"write: one view of {size}, milliseconds; speed as a share of raw bytes and one fsync",
        "lookup": f"lookup: {rows} random (view, sample), microseconds; speed as a share of a warm memory map",
    }
    for key, title in titles.items():
        unit, scale = ("us", 1e6) if key == "lookup" else ("ms", 1e3)
        header = (key, f"median {unit}", "share (95 % interval)", "rounds")
        found[title] = (
            header,
            [
                [name, f"{case['seconds'] * scale:,.1f}", interval(case["ratio"]), str(case["rounds"])]
                for name, case in result[key].items()
            ],
        )
    columns = ("cache-logits", "bare, s", "cached, s", "cached / bare", "cached / forward alone", "start-up, s")
    found["cache-logits: wall time as a multiple of the bare teacher's, rendering included"] = (
        columns,
        [
            [
                f"{title}: {part['samples']:,} x {part['views']} views",
                f"{part['cases']['bare teacher']['seconds']:.2f}",
                f"{part['cases']['cache-logits']['seconds']:.2f}",
                interval(part["cases"]["cache-logits"]["ratio"]),
                interval(part["of_forward_alone"]),
                f"{part['startup_seconds']:.1f}",
            ]
            for title, part in result["cache"].items()
        ],
    )
    return found


if __name__ == "__main__":
    main()

"""Time and memory of synthetic stores against samples, views and classes; and a store larger than the memory limit."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._measure import PYTHON, environment, median, report
from benchmarks._scale import SyntheticStore

BASE = {"samples": 2_000, "views": 2, "classes": 10}
FACTORS = (1, 10, 100)
STREAMED = {"samples": 50_000, "classes": 100}  # as CIFAR-100: 10 MB per view
LIMIT_MB = 192


def main(arguments: list[str] | None = None) -> None:
    """Write and read a store of each size in its own process, and one under a memory limit; print tables, write JSON."""
    options = parser().parse_args(arguments)
    settings = {"base": BASE, "factors": options.factor or FACTORS, "rounds": options.rounds}
    settings |= {"streamed": STREAMED | {"views": options.streamed_views}}
    result = environment() | {"command": "python -m benchmarks.scaling", "settings": settings, "sizes": {}}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for key in BASE:
            for factor in settings["factors"]:
                size = {**BASE, key: BASE[key] * factor}
                rounds = [one(size, Path(name)) for _ in range(options.rounds)]
                found = {figure: median([turn[figure] for turn in rounds]) for figure in rounds[0]}
                result["sizes"][f"{key} x {factor}"] = size | found
        result["streamed"] = streamed(Path(name), options.streamed_views)
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    found.add_argument("--factor", action="append", type=int, help=f"repeatable; else {FACTORS}")
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--streamed-views", type=int, default=100, help="views of the store that is read under a limit")
    found.add_argument("--folder", type=Path, help="where temporary files go")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def one(size: dict[str, int], folder: Path) -> dict[str, float]:
    """Measure seconds and bytes of one size in a separate process."""
    command = [PYTHON, "-m", "benchmarks._scale", json.dumps(size), str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def streamed(folder: Path, views: int) -> dict[str, float]:
    """Read a large store view by view under a memory limit; returns MB of the store, of the limit and of the peak."""
    stores = [folder / "small.zarr", folder / "large.zarr"]
    SyntheticStore(samples=10, views=1, classes=2).write(stores[0])
    SyntheticStore(**STREAMED, views=views).write(stores[1])
    command = [sys.executable, "-m", "benchmarks._streamed", *map(str, stores), str(LIMIT_MB)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    header = ("", "MB in all", "MB per view", "write, s", "read, s", "ns per logit, read", "memory above start, MB")
    rows = []
    for name, size in result["sizes"].items():
        logits = size["samples"] * size["views"] * size["classes"]
        figures = (size["bytes"] / 1e6, size["bytes"] / size["views"] / 1e6, size["write"], size["read"])
        rows.append(
            [
                name,
                *(f"{value:,.2f}" for value in figures),
                f"{1e9 * size['read'] / logits:.1f}",
                f"{size['memory'] / 1e6:,.0f}",
            ]
        )
    base = ", ".join(f"{value:,} {key}" for key, value in BASE.items())
    under = [f"{result['streamed'][key]:,.0f}" for key in ("views", "data", "limit", "peak", "rss")]
    return {
        f"{base}; then one of them larger": (header, rows),
        "streamed under a limit of private memory": (
            ("views", "MB in all", "limit above start, MB", "peak above start, MB", "peak of the whole process, MB"),
            [under],
        ),
    }


if __name__ == "__main__":
    main()

"""The gain of keeping freed memory (`prepkd.runtime.allocator`): a teacher's pass and a training step on a CPU."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._measure import environment, interleaved, interval, median, ratio, report

CASES = {
    "resnet20 answers": ("resnet20", "teacher's forward"),
    "wrn_40_2 answers": ("wrn_40_2", "teacher's forward"),
    "resnet32x4 answers": ("resnet32x4", "teacher's forward"),
    "resnet8 is trained": ("resnet8", "plain CE"),
    "wrn_16_2 is trained": ("wrn_16_2", "plain CE"),
}
FREED = ("returned", "kept")


def main(arguments: list[str] | None = None) -> None:
    """Measure every case, print a table, write JSON."""
    options = parser().parse_args(arguments)
    names = options.case or list(CASES)
    settings = {"case": names, "rounds": options.rounds, "steps": options.steps, "batch_size": options.batch_size}
    result = environment() | {"command": "python -m benchmarks.allocator", "settings": settings}
    result["cases"] = {name: measure(name, options) for name in names}
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options; small `--steps` and `--rounds` shorten a run."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.allocator", description=__doc__)
    found.add_argument("--case", action="append", choices=CASES, help="repeatable; else all")
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument("--steps", type=int, default=4)
    found.add_argument("--batch-size", type=int, default=128, help="of training; a teacher answers 256 at a time")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure samples per second, peak memory and the ratio of times, with and without kept memory, in alternating processes."""
    found: dict[str, list[dict[str, float]]] = {freed: [] for freed in FREED}

    def case(freed: str) -> Callable[[int], object]:
        words = [freed, *CASES[name], str(options.batch_size), str(options.steps)]

        def run(turn: int) -> None:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks._allocating", *words],
                cwd=Path(__file__).parents[1],
                check=True,
                stdout=subprocess.PIPE,
                env={key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")},
            )
            found[freed].append(json.loads(done.stdout))

        return run

    interleaved({freed: case(freed) for freed in FREED}, options.rounds, warm_up=False)
    seconds = {freed: [one["seconds"] for one in found[freed]] for freed in FREED}
    return {
        "samples_per_second": {freed: options.steps * options.batch_size / median(seconds[freed]) for freed in FREED},
        "peak_memory": {freed: median([one["peak_memory"] for one in found[freed]]) for freed in FREED},
        "ratio": ratio(seconds["kept"], seconds["returned"]),
    }


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    rows = []
    for name, found in result["cases"].items():
        figures = [f"{found['samples_per_second'][freed]:,.0f}" for freed in FREED]
        peaks = [f"{found['peak_memory'][freed] / 1e6:,.0f}" for freed in FREED]
        rows.append([name, *figures, interval(found["ratio"]), *peaks])
    header = ("", *(f"samples/s, {freed}" for freed in FREED), "time, kept / returned (95 % interval)")
    header += tuple(f"peak MB, {freed}" for freed in FREED)
    return {f"freed memory, {result['settings']['rounds']} rounds": (header, rows)}


if __name__ == "__main__":
    main()

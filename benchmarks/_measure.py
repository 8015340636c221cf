"""Timing by interleaved rounds, and the machine, versions and commit to record with every number."""

import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from prepkd.runtime.files import write_bytes
from tabulate import tabulate

PACKAGES = ("torch", "numpy", "zarr", "numcodecs", "h5py")
ROOT = Path(__file__).parents[1]
PYTHON = os.environ.get("PYTHON", sys.executable)  # for processes that are measured as a whole

Case = Callable[[int], object]


def interleaved(
    cases: Mapping[str, Case],
    rounds: int,
    *,
    fewer: Mapping[str, int] | None = None,
    before: Callable[[], None] = lambda: None,
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Return the seconds of each case in each round; each round runs all cases, starting one case later than the last round.

    A case is called with the round's number; round 0 is a warm-up and not counted. `fewer` limits slow cases to their first
    rounds. `before` runs before each case and is not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for turn in range(0 if warm_up else 1, rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if turn > (fewer or {}).get(name, rounds):
                continue
            before()
            started = time.perf_counter()
            cases[name](turn)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(of: Sequence[float], to: Sequence[float]) -> dict[str, float]:
    """Return the median of the rounds' ratios `of / to`, and its interval of at least 95 % (the range below 6 rounds)."""
    ratios = sorted(a / b for a, b in zip(of, to, strict=False))
    n = len(ratios)
    # The median lies outside the k-th values from both ends with probability 2 P(Binomial(n, 1/2) <= k), k from 0.
    tails = [2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n for k in range((n + 1) // 2)]
    below = max((k for k, tail in enumerate(tails) if tail <= 0.05), default=0)
    return {"median": statistics.median(ratios), "low": ratios[below], "high": ratios[n - 1 - below]}


def against(baseline: str, seconds: Mapping[str, Sequence[float]], *, inverse: bool = False) -> dict[str, Any]:
    """Return each case's median seconds, rounds, and speed relative to the baseline (`inverse`: time relative to it)."""
    base = seconds[baseline]
    return {
        name: {
            "seconds": statistics.median(times),
            "rounds": len(times),
            "ratio": ratio(times, base) if inverse else ratio(base, times),
        }
        for name, times in seconds.items()
    }


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def peak_memory() -> dict[str, int]:
    """Return the peak resident bytes of this process, and of its largest child that has ended."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return {
        name: unit * resource.getrusage(who).ru_maxrss
        for name, who in {"own": resource.RUSAGE_SELF, "largest child": resource.RUSAGE_CHILDREN}.items()
    }


def environment() -> dict[str, Any]:
    """Return the machine, the versions, and the commit of the source tree, marked if the tree has changes."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    changed = _git("status", "--porcelain", "--", "pipeline", "stages", "benchmarks/*.py")
    return {
        "machine": {
            "processor": ", ".join(sorted(models)) or platform.processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "commit": _git("rev-parse", "HEAD") + (" with changes" if changed else ""),
    }


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def interval(value: Mapping[str, float]) -> str:
    """Format a ratio with its interval, as in `0.21 (0.20 to 0.22)`."""
    return f"{value['median']:.3g} ({value['low']:.3g} to {value['high']:.3g})"


def rendered(header: Sequence[str], rows: list[list[str]]) -> str:
    """Render a table in Markdown."""
    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True)


def report(
    result: dict[str, Any], tables: Mapping[str, tuple[Sequence[str], list[list[str]]]], out: Path | None
) -> None:
    """Print the tables, by title, and the machine; write the result as JSON, to `out` or to standard output."""
    for title, (header, rows) in tables.items():
        print(f"\n{title}\n\n{rendered(header, rows)}")
    print(f"\n{result['machine']['processor']}, {result['machine']['cores']} cores, commit {result['commit']}")
    if out:
        write_bytes(out, f"{json.dumps(result, indent=2)}\n".encode())  # in the tables' order
    else:
        print(json.dumps(result, indent=2))

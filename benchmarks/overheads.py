"""The overhead of a command: help, imports, a pipeline with nothing to do, cache-logits on digits."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._measure import environment, interleaved, interval, median, ratio, report

BAR_CACHE = 6.0  # seconds of cache-logits on digits outside the teacher
STAGES = ("prepare", "train-teacher teacher", "cache-logits teacher", "gather", "distill", "evaluate")


def main(arguments: list[str] | None = None) -> None:
    """Time each command as a process; print a table, write JSON."""
    options = parser().parse_args(arguments)
    result = environment() | {"command": "python -m benchmarks.overheads", "settings": {"rounds": options.rounds}}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        result |= measure(Path(name) / "project", options.rounds)
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.overheads", description=__doc__)
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument("--folder", type=Path, help="where temporary files go")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def measure(project: Path, rounds: int) -> dict[str, Any]:
    """Measure the seconds of each command, and of the heaviest imports of each stage."""
    run(f"prepkd init {project}", project.parent)
    fewer = "-S 'teachers.teacher.epochs=1' -S distill.epochs=1 -S distill.seeds=1"
    modules = {}
    for stage in STAGES:
        modules[stage.split()[0]] = imported(stage, fewer, project)
    # Run the pipeline once, so that the timed `dvc repro` has nothing to do.
    run("dvc repro", project)
    commands = {
        "python -c pass": f"{sys.executable} -c pass",
        "python -c 'import torch'": f"{sys.executable} -c 'import torch'",
        "python -c 'import prepkd'": f"{sys.executable} -c 'import prepkd'",
        "prepkd --help": "prepkd --help",
        "dvc --version": "dvc --version",
        "dvc repro, nothing to do": "dvc repro",
        "prepkd cache-logits": "rm -rf data/logits/teacher.zarr && prepkd cache-logits teacher",
    }
    cases: dict[str, Callable[[int], object]] = {
        name: (lambda turn, command=command: run(command, project)) for name, command in commands.items()
    }
    seconds = interleaved(cases, rounds)
    teacher = teacher_seconds(project)
    outside = [value - teacher for value in seconds["prepkd cache-logits"]]
    return {
        "seconds": {name: median(times) for name, times in seconds.items()},
        "cache_logits": {"teacher": teacher, "outside": median(outside), "bar": BAR_CACHE},
        "repro_as_dvc": ratio(seconds["dvc repro, nothing to do"], seconds["dvc --version"]),
        "imports": modules,
    }


def run(command: str, folder: Path) -> str:
    """Run a shell command with this interpreter's scripts and return its output; a failure ends the benchmark."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    if done.returncode:
        raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def imported(stage: str, settings: str, project: Path) -> dict[str, float]:
    """Return the seconds of a stage's heaviest imports by package; a module's time excludes its own imports."""
    code = "import sys; from prepkd.cli import main; main()"
    said = run(f'{sys.executable} -X importtime -c "{code}" {stage} {settings}', project)
    found: dict[str, float] = {}
    for own, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", said, re.M):
        package = name.partition(".")[0]
        found[package] = found.get(package, 0) + int(own) / 1e6
    heavy = sorted(found.items(), key=lambda entry: -entry[1])[:8]
    return {"all": round(sum(found.values()), 2)} | {name: round(seconds, 2) for name, seconds in heavy}


def teacher_seconds(project: Path) -> float:
    """Return the seconds of the teacher's forward passes, as cache-logits reports them; chunks are written in parallel."""
    said = run("rm -rf data/logits/teacher.zarr && prepkd cache-logits teacher", project)
    return float(re.findall(r"chunks written in ([\d.,]+) s", said)[0].replace(",", ""))


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    cached = result["cache_logits"]
    rows = [[name, f"{value:.2f}"] for name, value in result["seconds"].items()]
    rows.append(
        [
            f"cache-logits outside the teacher's {cached['teacher']:.1f} s, to stay under {cached['bar']:g}",
            f"{cached['outside']:.2f}",
        ]
    )
    rows.append(["dvc repro with nothing to do, as a multiple of dvc --version", interval(result["repro_as_dvc"])])
    imports = [
        [stage, *(f"{name} {seconds:.2f}" for name, seconds in list(found.items())[:6])]
        for stage, found in result["imports"].items()
    ]
    return {
        f"commands, {result['settings']['rounds']} rounds": (("", "seconds"), rows),
        "imports, seconds by package (timed one by one, which slows them)": (
            ("stage", "all", "", "", "", "", ""),
            imports,
        ),
    }


if __name__ == "__main__":
    main()

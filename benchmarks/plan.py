"""Compare the predictions of `prepkd plan` with measured runs; write and read a store of ImageNet's size in limited memory."""

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from prepkd.costs.cost import StoreCost
from prepkd.costs.memory import caching_memory, training_memory

from benchmarks._large import CHUNK
from benchmarks._measure import PYTHON, environment, median, report
from benchmarks._project import Project, importable, logged_rates, make_images
from benchmarks._scale import SyntheticStore

# Made-up images of 8 x 8 pixels, so that memory and disk are used by the answers, not by the images.
RUNS: dict[str, dict[str, Any]] = {
    "f16, 100 classes": {"samples": 50_000, "classes": 100, "settings": {}},
    "topk, 1,000 classes": {"samples": 30_000, "classes": 1_000, "settings": {"cache.encoding": "topk"}},
    "u8, 200 classes, pooled features": {
        "samples": 50_000,
        "classes": 200,
        "settings": {
            "cache.encoding": "u8",
            "cache.features": "[pooled]",
            "distill.method": "kd+sp-pooled",
        },
    },
}
VIEWS, EPOCHS = 4, (2, 4)  # a short run and a long one; no view is read twice
FEW = 1_024  # samples, four batches: a command on them shows the memory of model and libraries
LARGE = {"classes": 1_000, "views": 3, "encoding": "topk"}
IMAGENET = 1_281_167
# The memory limit of the large store: SLACK times the planned memory, plus ROOM for the stacks and arenas of threads.
SLACK, ROOM = 1.1, 128_000_000


def main(arguments: list[str] | None = None) -> None:
    """Plan, run and measure each small run; write and stream the large store; print tables, write JSON."""
    options = parser().parse_args(arguments)
    settings = {
        "share": options.share,
        "large_samples": options.large_samples,
        "large": LARGE,
        "slack": SLACK,
        "room": ROOM,
    }
    result = environment() | {"command": "python -m benchmarks.plan", "settings": settings, "runs": {}, "large": {}}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for title, one in RUNS.items():
            if options.run is not None and title.split(",")[0] not in options.run:
                continue
            folder = Path(name) / "run"
            result["runs"][title] = compared(one, options.share, folder)
            shutil.rmtree(folder)
        if options.large_samples:
            result["large"] = large(options.large_samples, Path(name))
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    found.add_argument(
        "--run", action="append", choices=[one.split(",")[0] for one in RUNS], help="repeatable; else all"
    )
    found.add_argument("--share", type=float, default=1.0, help="of the small runs' samples")
    found.add_argument("--large-samples", type=int, default=IMAGENET, help="of the large store; 0: none")
    found.add_argument("--folder", type=Path, help="where temporary files go")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def compared(run: dict[str, Any], share: float, folder: Path) -> dict[str, Any]:
    """Plan and run a project; returns the planned and the measured value of each figure."""
    few = made_project(run, FEW, folder / "few")
    libraries = [one["peak"] for one in cached(few)], measured(few, "distill")["peak"]
    samples = round(run["samples"] * share)
    project = made_project(run, samples, folder / "all")
    planned = plan(project, "--measure")
    caching = cached(project)
    seconds = sum(float(one["written"]) for one in caching)
    training = []
    for epochs in EPOCHS:
        project.settings["distill.epochs"] = epochs
        training.append(measured(project, "distill", "--replace") | {"rate": median(logged_rates(project))})
    per_epoch = (training[1]["read"] - training[0]["read"]) / (EPOCHS[1] - EPOCHS[0])
    online = measured(project, "distill", "--replace", "-S", "distill.source=online") | {
        "rate": median(logged_rates(project))
    }
    saved = samples / online["rate"] - samples / training[1]["rate"]  # seconds per epoch that the cache saves
    places = ("measured", "features")  # folders of stores, which also hold files of git
    files = [path for place in places for path in (project.folder / "data" / place).rglob("*.zarr/**/*")]
    files = [path for path in files if path.is_file()]
    memory, images = planned["memory"], planned["memory"]["images"]
    beside, most = max(zip(libraries[0], [one["peak"] for one in caching], strict=True), key=lambda pair: pair[1])
    trained = training[1]["peak"]
    pairs = {
        "bytes on disk": (planned["bytes"], sum(path.stat().st_size for path in files)),
        "files": (planned["files"], len(files)),
        "teacher, s": (3600 * planned["teacher_hours"], seconds),
        "bytes that an epoch reads": (planned["epoch_bytes"], per_epoch),
        "paid for after, epochs": (planned["break_even_epochs"], seconds / saved),
        "memory of caching": (beside + images + memory["caching"], most),
        "memory of training": (libraries[1] + images + memory["training"], trained),
        "of it beside model and libraries, caching": (images + memory["caching"], most - beside),
        "of it beside model and libraries, training": (images + memory["training"], trained - libraries[1]),
    }
    return {name: {"planned": a, "measured": b, "ratio": a / b} for name, (a, b) in pairs.items()}


def made_project(run: dict[str, Any], samples: int, folder: Path) -> Project:
    """Make a project with this number of samples, ready to cache and to train a short run."""
    folder.mkdir(parents=True)
    make_images(folder / "images.h5", {"train": samples, "test": run["classes"]}, 8, run["classes"])
    settings = {"threads": 1, "teachers.teacher.model": "resnet20", "distill.student": "convnet4", **run["settings"]}
    settings |= {"cache.views": 1, "augment": "[{crop: {padding: 1}}]", "distill.precision": "float32"}
    project = Project(folder, "h5", folder / "images.h5", settings)
    project.settings |= {"cache.views": VIEWS, "cache.root": "data/measured", "distill.epochs": EPOCHS[0]}
    return project


def cached(project: Project) -> list[dict[str, Any]]:
    """Measure caching of logits, and of features if the project has entries of them."""
    kinds = ("logits", "features") if "cache.features" in project.settings else ("logits",)
    return [measured(project, f"cache-{kind}", "teacher") for kind in kinds]


def plan(project: Project, *options: str) -> dict[str, Any]:
    """Return the JSON that `prepkd plan` prints for the project."""
    command = [PYTHON, "-m", "prepkd", *project.words("plan"), "--json", *options]
    found: dict[str, Any] = json.loads(ran(command, project).stdout)
    return found


def measured(project: Project, *words: str) -> dict[str, Any]:
    """Run a command; returns its memory, bytes read and, for caching, the seconds that it reports."""
    done = ran([PYTHON, "-m", "benchmarks._process", *project.words(*words)], project)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    written = re.search(r"chunks written in ([\d,.]+) s", done.stderr)
    return found | ({"written": written[1].replace(",", "")} if written else {})


def ran(command: list[str], project: Project) -> "subprocess.CompletedProcess[str]":
    """Run a command in the project; a failure ends the benchmark."""
    variables = project.environment | {"PYTHONPATH": importable(), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=project.folder, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed: {done.stderr[-2000:]}")
    return done


def large(samples: int, folder: Path) -> dict[str, Any]:
    """Write a store and stream it, each in a process limited to little more than the planned memory."""
    layout = SyntheticStore(samples=samples, **LARGE, chunk=CHUNK).layout
    cost = StoreCost.of("large", None, layout, 1)
    planned = {"write": caching_memory(layout), "read": training_memory([[layout]])}
    size = json.dumps({"samples": samples, **LARGE})
    found: dict[str, Any] = {"bytes": cost.bytes, "epoch_bytes": cost.epoch_bytes, "files": cost.files}
    for mode, memory in planned.items():
        most = round(SLACK * memory) + ROOM
        command = [PYTHON, "-m", "benchmarks._large", mode, str(folder), size, str(most)]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, stdout=subprocess.PIPE)
        found[mode] = json.loads(done.stdout) | {"planned": memory}
    files = [path for path in (folder / "large.zarr").rglob("*") if path.is_file()]
    found |= {"measured_bytes": sum(path.stat().st_size for path in files), "measured_files": len(files)}
    return found


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    found = {}
    if runs := result["runs"]:
        names = list(next(iter(runs.values())))
        rows = [
            [
                name,
                *(
                    f"{shown(one[name]['planned'])} / {shown(one[name]['measured'])} = {one[name]['ratio']:.2f}"
                    for one in runs.values()
                ),
            ]
            for name in names
        ]
        found["planned / measured"] = (("", *runs), rows)
    if one := result["large"]:
        samples, views = result["settings"]["large_samples"], LARGE["views"]
        write, reads = one["write"], one["read"]["seconds"]
        each = (reads[-1]) / len(reads)
        rows = [
            ["write, all views", *rate(write["seconds"][-1], samples * views, one["bytes"]), *memory(write)],
            ["stream, per view", *rate(each, samples, one["epoch_bytes"]), *memory(one["read"])],
        ]
        header = ("", "s", "samples/s", "MB/s", "peak, MB", "planned, MB", "limit, MB")
        what = f"{samples:,} samples x {LARGE['classes']:,} classes x {views} views, {LARGE['encoding']}"
        found[f"{what}, {one['bytes'] / 1e6:,.0f} MB"] = (header, rows)
    return found


def shown(value: float) -> str:
    """Format a number for a table, without decimals from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rate(seconds: float, samples: int, size: int) -> list[str]:
    """Format seconds, samples per second, MB per second."""
    return [f"{seconds:,.1f}", f"{samples / seconds:,.0f}", f"{size / seconds / 1e6:,.1f}"]


def memory(found: dict[str, Any]) -> list[str]:
    """Format peak, planned and limit in MB."""
    return [f"{found[key] / 1e6:,.0f}" for key in ("peak", "planned", "limit")]


if __name__ == "__main__":
    main()

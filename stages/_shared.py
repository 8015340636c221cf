"""What every stage needs: its options, where its files are, where unfinished work waits."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.read import read_dataset as read_prepared
from prepkd.errors import InputError
from prepkd.project.params import Params, load_params
from prepkd.runtime.allocator import keep_freed_memory
from prepkd.runtime.scratch import scratch as locked_scratch
from prepkd.views import Recipe, parse_recipe
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

ParamsFile = Annotated[Path, typer.Option("--params", help="The settings file.", show_default=True)]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set", "-S", metavar="KEY=VALUE", help="Override a setting, as in `-S distill.kd.tau=8`; repeatable."
    ),
]
console = Console(stderr=True, soft_wrap=True, highlight=False)


def read_params(path: Path, overrides: list[str], **options: object) -> Params:
    """The validated settings; options given on the command line (`distill__method="kd"`) win over --set and the file."""
    given = [f"{key.replace('__', '.')}={value}" for key, value in options.items() if value is not None]
    return load_params(path, [*overrides, *given])


def data_file(params: Params) -> Path:
    """The prepared data."""
    return Path("data") / f"{params.prepare.dataset}.h5"


def teacher_folder(name: str) -> Path:
    """A trained teacher."""
    return Path("models/teachers") / name


def store_url(params: Params, name: str) -> str:
    """A teacher's logit store: a local path, or a URL."""
    return f"{params.cache.root.rstrip('/')}/{name}.zarr"


def student_folder(seed: int) -> Path:
    """A trained student."""
    return Path("models/student") / f"seed{seed}"


def test_fingerprint(params: Params) -> str:
    """The fingerprint of the prepared test set."""
    return load_split(data_file(params), "test").fingerprint


def known_teacher(params: Params, name: str) -> str:
    """The name, if it is a key of `teachers`; raises InputError."""
    if name not in params.teachers:
        raise InputError(
            f"teacher is {name!r}; expected a key of teachers in params.yaml: {', '.join(params.teachers)}"
        )
    return name


def scratch_root() -> Path:
    """Where unfinished work waits: PREPKD_SCRATCH, else under the DVC root, which the workspaces of queued runs share."""
    if chosen := os.environ.get("PREPKD_SCRATCH"):
        return Path(chosen)
    if root := queue_root():
        return root / ".dvc" / "tmp" / "prepkd"
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            return folder / ".dvc" / "tmp" / "prepkd"
    return here / ".prepkd-scratch"


def queue_root() -> Path | None:
    """The project whose queue this runs in: a queued experiment has a workspace in <root>/.dvc/tmp/exps; None outside."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if folder.parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[3]
    return None


def logs_folder() -> Path:
    """Where loggers write: `results/logs` of the project, also from the workspaces of queued runs, which don't last."""
    return (queue_root() or Path()) / "results" / "logs"


def scratch(fingerprint: str) -> AbstractContextManager[Path]:
    """A locked folder for one piece of unfinished work, in this project's scratch."""
    return locked_scratch(scratch_root(), fingerprint, on_wait=lambda line: console.print(line, markup=False))


def progress() -> Progress:
    """A progress bar on standard error; a narrow terminal gets the count and the note, and no bar."""
    wide = [BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()] if console.width >= 100 else []
    return Progress(
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        *wide,
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


def advance(bar: Progress, task: TaskID, note: str = "") -> None:
    """One step further; where nobody watches a bar (logs, CI), a line for each fifth of the way instead."""
    bar.update(task, advance=1, note=note)
    state = bar.tasks[task]
    total = state.total or 1
    if not console.is_terminal and 5 * state.completed // total > 5 * (state.completed - 1) // total:
        console.print(f"{state.description}: {state.completed:.0f}/{total:.0f} {note}".rstrip(), markup=False)


def device(params: Params) -> torch.device:
    """The GPU where there is one; on a CPU, with as many threads as the settings say, and memory that is kept."""
    if params.threads:
        torch.set_num_threads(params.threads)
    if torch.cuda.is_available():
        return torch.device("cuda")
    keep_freed_memory()
    return torch.device("cpu")


def recipe_of(params: Params) -> Recipe:
    """The views' recipe."""
    return parse_recipe(params.augment)


def read_dataset(
    params: Params, views: int | Literal["all"], seed: int, augment: list[Any] | None = None
) -> tuple[Dataset, dict[str, Any]]:
    """The project's prepared data on the device, and the fingerprints of what was read.

    Training shows views of the recipe `augment`, or of the project's; held-out data are always shown as the project's are.
    """
    path = data_file(params)
    describe(path)  # a missing file is reported before the device is set up
    recipe = parse_recipe(params.augment if augment is None else augment)
    return read_prepared(path, recipe, views, seed, device(params), held_out_recipe=recipe_of(params))


def epoch_note(row: dict[str, float]) -> str:
    """One line about an epoch."""
    parts = [f"loss {row['train/loss']:.3f}", f"train {row['train/top1']:.1%}"]
    parts += [f"{name} {row[f'{name}/top1']:.1%}" for name in ("val", "test") if f"{name}/top1" in row]
    return ", ".join(parts)

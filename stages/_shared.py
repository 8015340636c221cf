"""What every stage needs: its options, where its files are, where unfinished work waits."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from prepkd.errors import InputError
from prepkd.params import Params, load_params
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

if TYPE_CHECKING:
    import torch
    from prepkd.lesson import Lesson
    from prepkd.views import Recipe

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
    from prepkd.data import load_split

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


@contextlib.contextmanager
def scratch(fingerprint: str) -> Iterator[Path]:
    """A locked folder for one piece of unfinished work; kept on failure, and on success where somebody waits for it.

    While another process does this very work, as a second queued experiment with the same teacher, it is waited for, and
    what it leaves is gone on from: mostly all of it.
    """
    folder = scratch_root() / fingerprint
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _turn(folder):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
            if not awaited(folder):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            with contextlib.suppress(OSError):  # there is work in it, to go on with
                folder.rmdir()
            if not folder.exists():
                # While it is still held: unlinked later, it might be the lock that another process has just taken.
                Path(f"{folder}.lock").unlink(missing_ok=True)


def awaited(folder: Path) -> bool:
    """Whether another process waits for the work in a scratch folder, and would do it once more if it were removed."""
    from filelock import FileLock, Timeout

    with contextlib.suppress(Timeout), FileLock(f"{folder}.next", timeout=0) as line:
        Path(line.lock_file).unlink()
        return False
    return True


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Hold a scratch folder's lock, after whoever has it; the first who waits holds `.next`, others wait for that."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"{folder}: another process is doing this very work; waiting for it to end", markup=False)
        with FileLock(f"{folder}.next") as line:
            lock.acquire()
            Path(line.lock_file).unlink()
    try:
        yield
    finally:
        lock.release()


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


def device(params: Params) -> "torch.device":
    """The GPU where there is one; on a CPU, with as many threads as the settings say, and memory that is kept."""
    import torch
    from prepkd.allocator import keep_freed_memory

    if params.threads:
        torch.set_num_threads(params.threads)
    if torch.cuda.is_available():
        return torch.device("cuda")
    keep_freed_memory()
    return torch.device("cpu")


def recipe_of(params: Params) -> "Recipe":
    """The views' recipe."""
    from prepkd.views import parse_recipe

    return parse_recipe(params.augment)


def read_lesson(
    params: Params, views: int | str, seed: int, augment: list[Any] | None = None
) -> "tuple[Lesson, dict[str, Any]]":
    """The prepared data on the device, under a plan of views, and the fingerprints that say what was read.

    Training shows views of the recipe `augment`, or of the project's; held-out data are always shown as the project's are.
    """
    from concurrent.futures import ThreadPoolExecutor

    from prepkd.data import Split, Statistics, channel_statistics, describe, load_split

    path = data_file(params)
    info = describe(path)
    others = [name for name in info.splits if name != "train"]

    def read_train() -> tuple[Split, Statistics]:
        split = load_split(path, "train")
        return split, channel_statistics(split.images)

    with ThreadPoolExecutor(2) as pool:  # half a second for CIFAR-100, which passes while torch is imported
        reading = pool.submit(read_train)
        held_out = pool.map(partial(load_split, path), others)
        import torch
        from prepkd.lesson import Lesson
        from prepkd.models import Preprocessing
        from prepkd.samples import Samples
        from prepkd.views import ViewPlan, parse_recipe

        where = device(params)
        recipe, shown = parse_recipe(params.augment if augment is None else augment), recipe_of(params)
        train, statistics = reading.result()
        plan = ViewPlan(recipe, views, seed, len(train.labels))  # type: ignore[arg-type]
        lesson = Lesson(
            Samples.of(train, where, recipe),
            {name: Samples.of(split, where, shown) for name, split in zip(others, held_out, strict=True)},
            plan,
            Preprocessing.by(statistics),
            len(info.class_names),
        )
    inputs = {
        "dataset": info.dataset,
        "dataset_fingerprint": info.fingerprint,
        "split_fingerprint": train.fingerprint,
        "plan_fingerprint": plan.fingerprint,
        # Results differ in the last bits between a CPU's thread counts.
        "device": where.type if where.type != "cpu" else f"cpu, {torch.get_num_threads()} threads",
    }
    return lesson, inputs


def epoch_note(row: dict[str, float]) -> str:
    """One line about an epoch."""
    parts = [f"loss {row['train/loss']:.3f}", f"train {row['train/top1']:.1%}"]
    parts += [f"{name} {row[f'{name}/top1']:.1%}" for name in ("val", "test") if f"{name}/top1" in row]
    return ", ".join(parts)

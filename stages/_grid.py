"""Train the unfinished runs of the comparison's grid, one task per run and seed."""

from functools import partial

from prepkd.data.prepared.file import load_split
from prepkd.distillation.grid import RunKey, train_runs
from prepkd.engines.engine import EngineOptions, Start, task_starter
from prepkd.engines.task import Task
from prepkd.errors import InputError
from prepkd.project.outputs import run_output
from prepkd.project.params import Params, from_plain, plain
from prepkd.report.run_logits import RunFile, is_current
from prepkd.stages._comparison import run_of
from prepkd.stages._console import advance, progress, say
from prepkd.stages._project import data_file, writing
from prepkd.stages._run import train_seed
from prepkd.stages._students import uses_own_code
from prepkd.stages.gather import write_lessons


def whole_grid(params: Params) -> dict[RunKey, RunFile]:
    """Return all runs of the comparison, and write the lesson files that its DVC stages depend on."""
    if params.distill.source == "cached":
        for names in params.compare.teachers:
            write_lessons(params, names)
    return {RunKey(run, *pair): run_of(params, run, *pair) for pair in params.pairs for run in params.compare.runs}


def train_grid(params: Params, runs: dict[RunKey, RunFile], start: Start, *, replace: bool) -> None:
    """Train the unfinished ones of these runs; raises InputError at the end if any training failed."""
    test = load_split(data_file(params), "test").fingerprint
    left = {key: run for key, run in runs.items() if uses_own_code(params, run.settings) or not is_current(run, test)}
    if len(left) < len(runs):
        say(f"{len(runs) - len(left)} of {len(runs)} runs are finished")

    def task_of(name: str, key: RunKey, seed: int) -> Task:
        return Task(name, train_seed, (plain(params), name, *key, seed, replace))

    with writing(*(run_output(run.path) for run in left.values())), progress() as bar:
        seeds = bar.add_task("compare", total=sum(len(run.settings.seed_list) for run in left.values()), note="")
        train_runs(left, task_of, start, partial(advance, bar, seeds), say)


def train_as_tasks(params: Params, only: RunKey | None, where: EngineOptions, *, replace: bool) -> None:
    """Train one run, or all runs if `only` is None, as far as unfinished; each seed is a task in one process.

    Raises InputError if `devices` is not 1, or if a training fails.
    """
    if params.devices != 1:
        raise InputError(
            f"devices is {params.devices}, and --jobs and --engine ray train each seed in one process; add -S devices=1"
        )
    with task_starter(where, params.threads, say) as (threads, start):
        runs = whole_grid(params) if only is None else {only: run_of(params, *only)}
        train_grid(from_plain(plain(params) | {"threads": threads}), runs, start, replace=replace)

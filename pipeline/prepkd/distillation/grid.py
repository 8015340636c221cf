"""Train runs of the comparison as tasks, one per run and seed, and write each run's file when all its seeds are trained."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from prepkd.distillation.compared_runs import ARROW
from prepkd.distillation.run_results import write_seeds
from prepkd.distillation.student_settings import Distill
from prepkd.engines.engine import Start
from prepkd.engines.task import Task
from prepkd.errors import InputError


class RunKey(NamedTuple):
    """A run of the comparison: its text, its teacher (several joined by '+') and its student."""

    text: str
    teacher: str
    student: str


class GridRun(Protocol):
    """A run's settings, and the file of its test logits."""

    @property
    def settings(self) -> Distill: ...  # noqa: D102
    @property
    def path(self) -> Path: ...  # noqa: D102


def seed_name(key: RunKey, seed: int, *, with_pair: bool) -> str:
    """Name a seed of a run, for messages."""
    return (f"{key.teacher}{ARROW}{key.student}: " if with_pair else "") + f"{key.text}, seed {seed}"


def train_runs(
    runs: Mapping[RunKey, GridRun],
    task_of: Callable[[str, RunKey, int], Task],
    start: Start,
    on_seed: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    """Train every seed of the runs as a task that returns test logits (N, K) and their origin, and write each run's file.

    `task_of` gets a task's name, its run and its seed; `on_seed` the name of a task that has ended. Raises InputError at the end
    if tasks have failed, with one line per failed task.
    """
    with_pair = len({key[1:] for key in runs}) > 1
    of_name = {
        seed_name(key, seed, with_pair=with_pair): (key, seed)
        for key, run in runs.items()
        for seed in run.settings.seed_list
    }
    found: dict[RunKey, dict[int, tuple[Any, dict[str, Any]]]] = {key: {} for key in runs}
    failed = []
    for outcome in start([task_of(name, *one) for name, one in of_name.items()]):
        on_seed(outcome.name)
        if outcome.failure is not None:
            failed.append(f"{outcome.name}: {outcome.failure}")
            say(f"failed: {failed[-1]}")
            continue
        key, seed = of_name[outcome.name]
        run = runs[key]
        found[key][seed] = outcome.value
        if len(found[key]) == len(run.settings.seed_list):
            write_seeds(run.path, run.settings, found.pop(key))
            say(f"{run.path}: {len(run.settings.seed_list)} seeds")
    if failed:
        raise InputError(f"{len(failed)} of {len(of_name)} trainings have failed; finished ones are kept", *failed)

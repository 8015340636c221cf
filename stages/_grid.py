"""The comparison's runs trained as tasks, one per run and seed: several at once on this machine, or on a Ray cluster."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from prepkd.data.prepared.file import load_split
from prepkd.distillation.finished_students import refuse_other_run
from prepkd.distillation.run_results import run_results, write_seeds
from prepkd.engines import local
from prepkd.engines.task import Outcome, Task
from prepkd.errors import InputError
from prepkd.project.outputs import run_logits
from prepkd.project.params import Params, from_plain, plain
from prepkd.report import run_logits as report
from prepkd.report.run_logits import RunFile
from prepkd.runtime.processors import processors
from prepkd.stages._comparison import run_of
from prepkd.stages._console import advance, epoch_note, progress, say
from prepkd.stages._dataset import cached_views
from prepkd.stages._engines import Engine, here, ray_engine, refuse_launcher, share_of, threads
from prepkd.stages._project import data_file, writing
from prepkd.stages._students import students, uses_own_code
from prepkd.stages.gather import write_lesson
from prepkd.training.checkpoints import Row
from prepkd.views import parse_recipe

Start = Callable[[Sequence[Task]], Iterator[Outcome]]
Runs = Mapping[tuple[str, str, str], RunFile]  # by the run's text, its teacher and its student
Found = tuple[Any, dict[str, Any]]  # test logits (N, K), and what made them


@contextlib.contextmanager
def starting(
    params: Params, engine: Engine, jobs: int | None, num_gpus: float | None
) -> Iterator[tuple[Params, Start]]:
    """Yield the settings that tasks get, and what starts them: `jobs` at once here, or as many as a Ray cluster holds."""
    if params.devices != 1:
        raise InputError(
            f"devices is {params.devices}, and --jobs and --engine ray train each seed in one process; add -S devices=1"
        )
    if engine is Engine.RAY:
        if jobs is not None:
            raise InputError(
                "--jobs is for this machine; Ray runs as many tasks as its nodes hold: --num-gpus and threads say"
            )
        with ray_engine() as ray:
            share, theirs = share_of(ray, params, num_gpus)
            yield theirs, lambda tasks: ray.run(tasks, here(), share)
        return
    refuse_launcher("--jobs")
    count = jobs or 1
    if count > 1 and count * threads(params) > processors():
        fewer = max(1, processors() // count)
        say(
            f"warning: {count} jobs of {threads(params)} threads share {processors()} processors; `threads: {fewer}` is faster, "
            "and changes the last bits of results"
        )
    yield params, lambda tasks: local.run(tasks, here(), count, say)


def whole_grid(params: Params) -> Runs:
    """All runs of the comparison; also write the lessons that the comparison's stages in DVC depend on."""
    if params.distill.source == "cached":
        for names in params.compare.teachers:
            write_lesson(params, names)
    return {(run, *pair): run_of(params, run, *pair) for pair in params.pairs for run in params.compare.runs}


def train_grid(params: Params, runs: Runs, start: Start, *, replace: bool) -> None:
    """Train what is not finished of some runs, and write each run's file when its seeds are there.

    Raises InputError at the end if tasks have failed, with a line for each one.
    """
    test = load_split(data_file(params), "test").fingerprint
    left = {key: run for key, run in runs.items() if uses_own_code(params, run.settings) or not _finished(run, test)}
    if len(left) < len(runs):
        say(f"{len(runs) - len(left)} of {len(runs)} runs are there already")
    of_name, tasks, several = {}, [], len(params.pairs) > 1
    for (text, teacher, student), run in left.items():
        for seed in run.settings.seed_list:
            name = (f"{teacher} -> {student}: " if several else "") + f"{text}, seed {seed}"
            of_name[name] = (text, teacher, student), run, seed
            tasks.append(Task(name, train_seed, (plain(params), name, text, teacher, student, seed, replace)))
    found: dict[tuple[str, str, str], dict[int, Found]] = {key: {} for key in left}
    failed = []
    with writing(*(run_logits(run.path) for run in left.values())), progress() as bar:
        all_of_them = bar.add_task("compare", total=len(tasks), note="")
        for outcome in start(tasks):
            key, run, seed = of_name[outcome.name]
            advance(bar, all_of_them, outcome.name)
            if outcome.failure is not None:
                failed.append(f"{outcome.name}: {outcome.failure}")
                say(f"failed: {failed[-1]}")
                continue
            found[key][seed] = outcome.value
            if len(found[key]) == len(run.settings.seed_list):
                write_seeds(run.path, run.settings, found.pop(key))
                say(f"{run.path}: {len(run.settings.seed_list)} seeds")
    if failed:
        raise InputError(f"{len(failed)} of {len(tasks)} trainings have failed; what is finished is kept", *failed)


def train_seed(
    settings_of_all: dict[str, Any], name: str, text: str, teacher: str, student: str, seed: int, replace: bool
) -> Found:
    """Train one seed of a run of a pair: the task of this name."""
    params = from_plain(settings_of_all)
    run = run_of(params, text, teacher, student)
    settings, test = run.settings.model_copy(update={"seeds": [seed]}), load_split(data_file(params), "test")

    refuse = partial(refuse_other_run, run.path, run.settings, test_fingerprint=test.fingerprint)
    with progress() as bar:
        task = bar.add_task(name, total=settings.epochs, note="")

        def on_epoch(_: int, row: Row) -> None:
            advance(bar, task, epoch_note(row))

        with students(params, settings, cached_views(params), on_epoch, None if replace else refuse) as trained:
            found = run_results(text, trained, test, parse_recipe(params.augment))
    return found.logits[seed].numpy(), found.made_from


def _finished(run: RunFile, test_fingerprint: str) -> bool:
    try:
        report.run_logits(run, test_fingerprint)
    except InputError:
        return False
    return True

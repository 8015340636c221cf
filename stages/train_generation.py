"""train-generation: data/<dataset>.h5 and data/logits/TEACHER.zarr -> models/teachers/NAME/."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from prepkd.distillation.generation_run import refuse_other_generation, write_generation
from prepkd.errors import InputError
from prepkd.project.outputs import teacher
from prepkd.runtime.clock import elapsed
from prepkd.stages._console import console, progress, say
from prepkd.stages._dataset import cached_views
from prepkd.stages._devices import use_devices
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, Replace, may_replace, read_params
from prepkd.stages._progress import TrainingProgress
from prepkd.stages._project import teacher_folder, training
from prepkd.stages._students import described, students
from prepkd.stages._summary import show_teacher


def train_generation(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key of `generations` in params.yaml.")],
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    replace: Replace = False,
    epochs: Annotated[int | None, typer.Option(help="Override generations.NAME.epochs.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a teacher that learns from another teacher's cached logits; writes `models/teachers/NAME/`.

    It is afterwards a teacher like any other. The same settings and seed under `distill` give the same weights. Killed? Run the
    same command again: it resumes.
    """
    known = read_params(params_file, overrides).generations
    if name not in known:
        raise InputError(f"generation is {name!r}; expected a key of generations: {', '.join(known) or 'it is empty'}")
    params = read_params(params_file, overrides, **{f"generations.{name}.epochs": epochs})
    use_devices(params)
    settings, folder = params.generations[name], teacher_folder(name)

    refuse = None if may_replace(replace) else partial(refuse_other_generation, folder, settings)
    with training(teacher(folder)), progress() as bar:
        dataset = cached_views(params)
        one_seed = settings.as_student.seed_list
        shown, began = TrainingProgress(bar, f"generation {name}", one_seed, settings.epochs), time.perf_counter()
        inputs = shown.started(described(settings.as_student, dataset), refuse)
        with students(params, settings.as_student, dataset, shown.epoch, inputs, name, shown.step) as trained:
            (one,) = trained
            taught_by = teacher_folder(settings.teacher)
            card = write_generation(folder, name, settings, one, dataset, teacher=taught_by, say=say)
    console.print(f"{folder}: {settings.student} taught by {settings.teacher}, test top-1 {card['test_top1']:.2%}")
    show_teacher(folder, card, elapsed(began))

"""train-teacher: data/<dataset>.h5 -> models/teachers/NAME/."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from prepkd.data.samples.dataset import Dataset
from prepkd.display.text import counted
from prepkd.errors import InputError
from prepkd.project.outputs import teacher
from prepkd.runtime import distributed
from prepkd.runtime.clock import elapsed
from prepkd.runtime.streams import Purpose
from prepkd.runtime.workspace import logs_folder
from prepkd.stages._console import console, progress, say
from prepkd.stages._dataset import read_dataset
from prepkd.stages._devices import described_device, use_devices
from prepkd.stages._options import (
    AsJson,
    Overrides,
    ParamsFile,
    Quiet,
    Replace,
    known_teacher,
    may_replace,
    read_params,
)
from prepkd.stages._progress import TrainingProgress
from prepkd.stages._project import scratch, teacher_folder, training
from prepkd.stages._summary import show_teacher
from prepkd.tracking.loggers import logged
from prepkd.training.context import RunContext
from prepkd.training.teacher import teacher_views
from prepkd.training.teacher_run import preprocessing_note, run_teacher
from prepkd.training.teacher_settings import Teacher


def train_teacher(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key of `teachers` in params.yaml.")],
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    replace: Replace = False,
    epochs: Annotated[int | None, typer.Option(help="Override teachers.NAME.epochs.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a teacher; writes its weights, its card and its test logits to `models/teachers/NAME/`.

    Killed? Run the same command again: it resumes from the last checkpoint and ends with the same weights.
    """
    known = read_params(params_file, overrides)
    if known_teacher(known, name) in known.generations:
        raise InputError(f"{name!r} is a key of generations; run `prepkd train-generation {name}`")
    known.refuse_imported(name)
    params = read_params(params_file, overrides, **{f"teachers.{name}.epochs": epochs})
    use_devices(params)
    settings, folder = params.teachers[name], teacher_folder(name)
    runs = (params.variant(run, *pair) for pair in params.pairs for run in params.compare.runs)
    with training(teacher(folder)), progress() as bar:
        views = teacher_views(settings), settings.seed, settings.augment, Purpose.TEACHER_VIEWS
        dataset = read_dataset(params, *views)
        shown, began = TrainingProgress(bar, f"teacher {name}", [settings.seed], settings.epochs), time.perf_counter()
        inputs = shown.started(f"teacher {name}: {work_described(settings, dataset)}")
        logger = partial(
            logged, params.logger if settings.epochs and distributed.is_main_process() else None, logs_folder()
        )
        context = RunContext(scratch, logger, shown.epoch, inputs, say, shown.step)
        students = [("distill", one) for one in (params.distill, *runs)]
        students += [(f"generations.{name}", one.as_student) for name, one in params.generations.items()]
        card = run_teacher(
            name, settings, dataset, context, folder=folder, replace=may_replace(replace), students=students
        )
    console.print(f"{folder}: {settings.model}, test top-1 {card['test_top1']:.2%}")
    show_teacher(folder, card, elapsed(began))
    if note := preprocessing_note(name, settings, card):
        say(note)


def work_described(settings: Teacher, dataset: Dataset) -> str:
    """Describe the training in one line; of given weights that stay unchanged, say so."""
    device = described_device(dataset.samples.device)
    if settings.epochs == 0:
        return f"{settings.model} with the given weights, unchanged, on {device}"
    images = counted(len(dataset.samples), "image")
    return f"training {settings.model}, {counted(settings.epochs, 'epoch')} of {images} on {device}"

"""Training of students from a project's settings, shared by `distill`, `compare` and `train-generation`."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from prepkd.data.samples.dataset import Dataset
from prepkd.display.text import counted
from prepkd.distillation.distill import distill as distill_students
from prepkd.distillation.student_settings import Distill
from prepkd.models.names import is_factory
from prepkd.project.params import Params
from prepkd.runtime import distributed
from prepkd.runtime.rank import NotMainProcess
from prepkd.runtime.workspace import logs_folder
from prepkd.settings.messages import section
from prepkd.stages._console import say
from prepkd.stages._devices import described_device
from prepkd.stages._project import data_file, kept_scratch, scratch
from prepkd.stages._teachers import teacher_files
from prepkd.tracking.loggers import Run, Write, logged
from prepkd.training.checkpoints import Row
from prepkd.training.context import RunContext, Trained
from prepkd.training.progress import BatchProgress


@contextlib.contextmanager
def students(
    params: Params,
    settings: Distill,
    dataset: Dataset,
    on_epoch: Callable[[int, Row], None],
    refuse: Callable[[Mapping[str, Any]], None] | None,
    generation: str | None = None,
    on_step: Callable[[int, BatchProgress], None] = lambda seed, tick: None,
) -> Iterator[Iterator[Trained]]:
    """Train one student per seed of the settings; `generation` is the key of the generation that the settings belong to.

    `refuse` gets the inputs of the students before any is trained, and may raise InputError. Of several processes only the
    first yields; the others train along and raise NotMainProcess.
    """
    teachers = {name: teacher_files(params, name, generation) for name in settings.teacher_names}
    run = f"generation-{generation}" if generation else None  # for loggers; by default its method and seed

    def logger(one: Run) -> AbstractContextManager[Write]:
        kind = params.logger if distributed.is_main_process() else None
        return logged(kind, logs_folder(), replace(one, name=run or one.name))

    # Finished seeds are kept for a later run with more seeds, except with a user's own code, which may change.
    where = scratch if uses_own_code(params, settings) else kept_scratch
    shown = on_epoch if distributed.is_main_process() else lambda seed, row: None
    steps = on_step if distributed.is_main_process() else lambda seed, tick: None
    context = RunContext(where, logger, shown, refuse or (lambda inputs: None), say, steps)
    keys = section(f"generations.{generation}" if generation else "distill")
    with keys, distill_students(settings, params.cache, dataset, teachers, context) as trained:
        if not distributed.is_main_process():
            for _ in trained:
                pass
            raise NotMainProcess
        path = {"data": str(data_file(params))}
        yield (one._replace(card={**one.card, "inputs": one.card["inputs"] | path}) for one in trained)


def described(settings: Distill, dataset: Dataset) -> str:
    """Describe the training in one line: student, teacher, seeds, epochs, images, device."""
    seeds, teachers = settings.seed_list, " + ".join(settings.teacher_names)
    taught = f" taught by {teachers}" if settings.parsed_method.needs_teacher else ""
    several = f"{len(seeds)} seeds of " if len(seeds) > 1 else ""
    epochs = counted(settings.epochs, "epoch")
    images = f"{counted(len(dataset.samples), 'image')} on {described_device(dataset.samples.device)}"
    return f"{settings.method}: training {settings.student}{taught}, {several}{epochs} of {images}"


def uses_own_code(params: Params, settings: Distill) -> bool:
    """Whether a model or a term is a user's own code, which may change."""
    live = settings.teacher_names if settings.source == "online" else []
    models = [settings.student, *(params.all_teachers[name].model for name in live)]
    return any(map(is_factory, models)) or bool(settings.own_terms)

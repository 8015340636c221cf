"""Students from a project's settings: what `distill`, `compare` and `train-generation` share."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.distill import distill as distill_students
from prepkd.distillation.student_settings import Distill
from prepkd.models import Normalised
from prepkd.models.names import is_factory
from prepkd.project.params import Params
from prepkd.runtime import processes
from prepkd.runtime.launched import Finished
from prepkd.stages._console import say
from prepkd.stages._dataset import read_dataset
from prepkd.stages._project import data_file, kept_scratch, logs_folder, scratch
from prepkd.stages._teachers import teacher_files
from prepkd.tracking.loggers import Run, Write, logged
from prepkd.training.checkpoints import Row

Trained = Iterator[tuple[int, Normalised, list[Row], dict[str, Any]]]


def students(
    params: Params,
    settings: Distill,
    on_epoch: Callable[[int, Row], None],
    on_inputs: Callable[[Mapping[str, Any]], None],
) -> AbstractContextManager[Trained]:
    """Train the students that the settings ask for; yield an iterator of (seed, model, history, card).

    `on_inputs` gets what they are made from, before any is trained.
    """
    data = read_dataset(params, params.cache.views, params.cache.seed, strong=params.augment_strong)
    return students_on(data, params, settings, on_epoch, on_inputs)


@contextlib.contextmanager
def students_on(
    data: tuple[Dataset, dict[str, Any]],
    params: Params,
    settings: Distill,
    on_epoch: Callable[[int, Row], None],
    on_inputs: Callable[[Mapping[str, Any]], None],
    run: str | None = None,
) -> Iterator[Trained]:
    """Train the students on a dataset that is already loaded; `run` names the run for loggers, by default its method and seed.

    Of several processes the first yields; the others train along and raise Finished.
    """
    dataset, inputs = data
    teachers = {name: teacher_files(params, name) for name in settings.teacher_names}

    def logger(one: Run) -> AbstractContextManager[Write]:
        kind = params.logger if processes.is_first() else None
        return logged(kind, logs_folder(), replace(one, name=run or one.name))

    # Finished seeds stay for a later run with more of them, except with a user's own code, which may change.
    where = scratch if uses_own_code(params, settings) else kept_scratch
    with distill_students(
        settings,
        params.cache,
        dataset,
        inputs,
        teachers,
        scratch=where,
        on_epoch=on_epoch if processes.is_first() else lambda seed, row: None,
        logged=logger,
        on_inputs=on_inputs,
        say=say,
    ) as trained:
        if not processes.is_first():
            for _ in trained:
                pass
            raise Finished
        path = {"data": str(data_file(params))}
        yield (
            (seed, model, history, card | {"inputs": card["inputs"] | path}) for seed, model, history, card in trained
        )


def uses_own_code(params: Params, settings: Distill) -> bool:
    """Whether a user's own code, which may change, has a part in the students."""
    live = settings.teacher_names if settings.source == "online" else []
    models = [settings.student, *(params.all_teachers[name].model for name in live)]
    return any(map(is_factory, models)) or bool(settings.own_terms)

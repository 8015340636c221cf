"""The teacher's rate on this machine, measured with the code that caches."""

import time
from statistics import median

from prepkd.data.samples.dataset import Dataset
from prepkd.errors import InputError
from prepkd.project.params import Params
from prepkd.runtime.clock import elapsed
from prepkd.teacher.caching import FIRST_BATCHES, logit_encoding, teacher_answers
from prepkd.training.initial import untrained_from
from prepkd.training.teacher_settings import IMPORTED

SECONDS = 3.0  # of timing per teacher


def teacher_rate(params: Params, dataset: Dataset) -> float:
    """Images per second that the teachers of `distill` answer and encode in turn, on the dataset's device.

    Their weights are random: trained ones take as long. Raises InputError for a model that cannot be built or was imported.
    """
    spent = 0.0
    for name in params.distill.teacher_names:
        settings = params.all_teachers[name]
        if settings.model == IMPORTED:
            raise InputError(
                f"teachers.{name}.model is imported: there is no model to time; give --teacher-images-per-second"
            )
        model = untrained_from(settings.model, settings, dataset)
        encoding, part = logit_encoding(params.cache, dataset.classes), _part(params, dataset)
        teacher_answers(model, dataset, encoding, params.cache, 0, part)  # warms up
        rounds: list[float] = []
        while not rounds or sum(rounds) < SECONDS:
            started = time.perf_counter()
            teacher_answers(model, dataset, encoding, params.cache, len(rounds) % dataset.plan.views, part)
            rounds.append(elapsed(started))
        spent += median(rounds) / part.stop  # the median, since other work on the machine comes in bursts
    return len(params.distill.teacher_names) / spent


def _part(params: Params, dataset: Dataset) -> slice:
    """The samples of whole batches, or all if they are fewer than a batch."""
    return slice(0, min(FIRST_BATCHES * params.cache.batch_size, dataset.plan.samples))

"""Students from params: what `distill` and `compare` share."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from prepkd.data.samples.dataset import Dataset
from prepkd.models import Normalised, load_checkpoint
from prepkd.models.checkpoint import CARD
from prepkd.project.params import Params
from prepkd.runtime.files import fingerprint
from prepkd.stages._dataset import read_dataset
from prepkd.stages._project import data_file, logs_folder, scratch, store_url, teacher_folder
from prepkd.store import LogitStore
from prepkd.teacher.answers import CachedTeacher, Ensemble, OnlineTeacher
from prepkd.teacher.caching import describe_teacher, encoding_of
from prepkd.tracking.loggers import logged
from prepkd.training.batches import Answering
from prepkd.training.checkpoints import Row
from prepkd.training.stopping import card_entry
from prepkd.training.student import train_students
from prepkd.training.student_settings import Distill
from prepkd.verification.provenance import (
    check_card,
    check_first_batch,
    check_given,
    check_pixels,
    check_store,
    check_teacher,
    check_views,
)
from prepkd.views.order import cycle, shown_views


@contextlib.contextmanager
def students(
    params: Params, settings: Distill, on_epoch: "Callable[[int, Row], None]"
) -> "Iterator[Iterator[tuple[int, Normalised, list[Row], dict[str, Any]]]]":
    """Train the students that the settings ask for; yields an iterator of (seed, model, history, card).

    The work of every seed is kept until the caller is through with all of them, so that an interrupted run goes on.
    """
    dataset, inputs = read_dataset(params, params.cache.views, params.cache.seed)

    teacher = None
    inputs["teacher"] = None
    if settings.parsed.teacher:
        found = {
            name: SOURCES[settings.source](params, settings, name, dataset, inputs) for name in settings.teacher_names
        }
        teacher = combined([member for member, _ in found.values()], settings)
        inputs["teacher"] = {name: made_from for name, (_, made_from) in found.items()}

    with contextlib.ExitStack() as held:
        trained = train_students(
            settings,
            dataset,
            teacher,
            inputs=inputs,
            scratch=lambda fingerprint: held.enter_context(scratch(fingerprint)),
            on_epoch=on_epoch,
            logged=partial(logged, params.logger, logs_folder()),
        )
        card = {
            "model": settings.student,
            "num_classes": dataset.classes,
            "in_channels": dataset.samples.channels,
            "training": settings.model_dump(mode="json"),
            "inputs": inputs | {"data": str(data_file(params))},
        }
        yield (
            (seed, student, history, card | {"seed": seed} | card_entry(settings, history))
            for seed, student, history in trained
        )


def combined(members: "list[Answering]", settings: Distill) -> "Answering":
    """One teacher of several; a single one is left as it is, with the bits of its store."""
    return members[0] if len(members) == 1 else Ensemble(members, settings)


def cached_teacher(
    params: Params, settings: Distill, name: str, dataset: "Dataset", inputs: dict[str, Any]
) -> "tuple[Answering, object]":
    """A teacher that answers from its store, and the store's fingerprints; raises InputError where they don't fit."""
    store = LogitStore.open(store_url(params, name))
    encoding = encoding_of(params.cache, dataset.classes)
    check_store(
        store,
        teacher=name,
        plan=dataset.plan,
        dataset=inputs["split_fingerprint"],
        encoding=encoding,
        precision=params.cache.precision,
        batch_size=params.cache.batch_size,
    )
    check_views(store, shown_views(settings.view_order, settings.seed_list, settings.epochs, store.views))
    check_pixels(store, dataset.samples)
    if (teacher_folder(name) / CARD).is_file():
        model, card = load_checkpoint(teacher_folder(name), device=dataset.samples.device)
        check_teacher(store, card, teacher_folder(name))
        check_given(card, params.teachers[name].weights, teacher_folder(name))
        check_first_batch(store, model, dataset.samples, first_view(settings, store.views))
    teacher = CachedTeacher(
        store,
        dataset.samples.device,
        resident=settings.view_order == "random",
        resident_gib=settings.resident_gib,
    )
    return teacher, store.attributes["fingerprints"]


def online_teacher(
    params: Params, settings: Distill, name: str, dataset: "Dataset", inputs: dict[str, Any]
) -> "tuple[Answering, object]":
    """A teacher that runs along, and what its answers depend on; raises InputError where it doesn't fit the data."""
    hint = f"run `prepkd train-teacher {name}`"
    model, card = load_checkpoint(teacher_folder(name), device=dataset.samples.device, hint=hint)
    check_card(card, dataset, inputs, teacher_folder(name))
    check_given(card, params.teachers[name].weights, teacher_folder(name))
    cache = params.cache
    teacher = OnlineTeacher(
        model,
        dataset.plan,
        dataset.samples,
        encoding_of(cache, dataset.classes),
        batch_size=cache.batch_size,
        precision=cache.precision,
    )
    made_from = {"teacher": fingerprint(describe_teacher(card | {"name": name}))}
    return teacher, made_from | {"cache": cache.model_dump(mode="json", exclude={"root"})}


def first_view(settings: Distill, views: int) -> int:
    """The view of the first epoch of the first seed; 0 where samples have views of their own."""
    return cycle(settings.seed_list[0], 0, views, 0) if settings.view_order == "cycle" else 0


SOURCES = {"cached": cached_teacher, "online": online_teacher}

"""Students from params: what `distill` and `compare` share."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prepkd.errors import refuse_differences
from prepkd.project.params import Params
from prepkd.settings.validation import validated
from prepkd.stages._shared import data_file, logs_folder, read_dataset, scratch, store_url, teacher_folder
from prepkd.training.student_settings import Distill
from prepkd.verification.provenance import (
    check_card,
    check_first_batch,
    check_given,
    check_pixels,
    check_store,
    check_teacher,
    check_training,
    check_views,
)
from prepkd.views.order import cycle, shown_views

if TYPE_CHECKING:
    from prepkd.data.samples.dataset import Dataset
    from prepkd.models import Normalised
    from prepkd.training.batches import Answering
    from prepkd.training.checkpoints import Row
    from torch import Tensor


@contextlib.contextmanager
def students(
    params: Params, settings: Distill, on_epoch: "Callable[[int, Row], None]"
) -> "Iterator[Iterator[tuple[int, Normalised, list[Row], dict[str, Any]]]]":
    """Train the students that the settings ask for; yields an iterator of (seed, model, history, card).

    The work of every seed is kept until the caller is through with all of them, so that an interrupted run goes on.
    """
    # First: it reads while torch is imported.
    dataset, inputs = read_dataset(params, params.cache.views, params.cache.seed)
    from prepkd.tracking.loggers import logged
    from prepkd.training.stopping import card_entry
    from prepkd.training.student import train_students

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
    from prepkd.teacher.answers import Ensemble

    return members[0] if len(members) == 1 else Ensemble(members, settings)


def cached_teacher(
    params: Params, settings: Distill, name: str, dataset: "Dataset", inputs: dict[str, Any]
) -> "tuple[Answering, object]":
    """A teacher that answers from its store, and the store's fingerprints; raises InputError where they don't fit."""
    from prepkd.models import load_checkpoint
    from prepkd.models.checkpoint import CARD
    from prepkd.store import LogitStore
    from prepkd.teacher.answers import CachedTeacher
    from prepkd.teacher.caching import encoding_of

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
    return teacher, store.attributes.fingerprints


def online_teacher(
    params: Params, settings: Distill, name: str, dataset: "Dataset", inputs: dict[str, Any]
) -> "tuple[Answering, object]":
    """A teacher that runs along, and what its answers depend on; raises InputError where it doesn't fit the data."""
    from prepkd.models import load_checkpoint
    from prepkd.runtime.files import fingerprint
    from prepkd.teacher.answers import OnlineTeacher
    from prepkd.teacher.caching import describe_teacher, encoding_of

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


def check_trained_by(made_from: dict[str, Any], wanted: Distill, where: object, remedy: str, *, but: set[str]) -> None:
    """Refuse what was trained with other settings; what was trained before a setting came has its default."""
    expected = wanted.model_dump(mode="json", exclude={"checkpoint_every", "resident_gib", "source", *but})
    had = validated(Distill, made_from, f"{where}: training").model_dump(mode="json")
    check_training(had, expected, where, remedy)


def teachers_of(settings: Distill) -> dict[str, Path]:
    """The folder of each teacher that the method asks."""
    return {name: teacher_folder(name) for name in settings.teacher_names if settings.parsed.teacher}


def teacher_test_logits(settings: Distill, test: str) -> "Tensor":
    """The teachers' combined logits (N, K) on the test set of fingerprint `test`; raises InputError."""
    from prepkd.models.checkpoint import load_card
    from prepkd.teacher.combine import combine
    from prepkd.training.predictions import read_results

    answers = []
    for name in settings.teacher_names:
        folder, remedy = teacher_folder(name), f"run `prepkd train-teacher {name}`"
        results = read_results(folder / "test_logits.safetensors", remedy)
        wanted = {"weights_fingerprint": load_card(folder)["weights_fingerprint"], "test_fingerprint": test}
        refuse_differences(
            {key: (results.made_from.get(key), value) for key, value in wanted.items()},
            folder / "test_logits.safetensors",
            remedy,
        )
        row_max = results.logits[0].amax(dim=-1)
        answers.append((results.logits[0] - row_max.unsqueeze(-1), row_max))
    if len(answers) == 1:
        return results.logits[0]
    offsets, row_max = combine(answers, settings.ensemble.combine, settings.teacher_weights, tau=settings.teacher_tau)
    return offsets + row_max.unsqueeze(-1)


SOURCES = {"cached": cached_teacher, "online": online_teacher}

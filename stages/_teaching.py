"""Students from params: what `distill` and `compare` share."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prepkd.errors import InputError, refuse_differences
from prepkd.params import Distill, Params
from prepkd.stages._shared import data_file, logs_folder, read_lesson, scratch, store_url, teacher_folder
from prepkd.validation import validated

if TYPE_CHECKING:
    from prepkd.feed import Answering
    from prepkd.lesson import Lesson
    from prepkd.models import Normalised
    from prepkd.resume import Row
    from prepkd.store import LogitStore
    from torch import Tensor


@contextlib.contextmanager
def students(
    params: Params, settings: Distill, on_epoch: "Callable[[int, Row], None]"
) -> "Iterator[Iterator[tuple[int, Normalised, list[Row], dict[str, Any]]]]":
    """Train the students that the settings ask for; yields an iterator of (seed, model, history, card).

    The work of every seed is kept until the caller is through with all of them, so that an interrupted run goes on.
    """
    # First: it reads while torch is imported.
    lesson, inputs = read_lesson(params, params.cache.views, params.cache.seed)
    from prepkd.loggers import logged
    from prepkd.stopping import card_entry
    from prepkd.students import train_students

    teacher = None
    inputs["teacher"] = None
    if settings.parsed.teacher:
        found = {
            name: SOURCES[settings.source](params, settings, name, lesson, inputs) for name in settings.teacher_names
        }
        teacher = combined([member for member, _ in found.values()], settings)
        inputs["teacher"] = {name: made_from for name, (_, made_from) in found.items()}

    with contextlib.ExitStack() as held:
        trained = train_students(
            settings,
            lesson,
            teacher,
            inputs=inputs,
            scratch=lambda fingerprint: held.enter_context(scratch(fingerprint)),
            on_epoch=on_epoch,
            logged=partial(logged, params.logger, logs_folder()),
        )
        card = {
            "model": settings.student,
            "num_classes": lesson.classes,
            "in_channels": lesson.samples.channels,
            "training": settings.model_dump(mode="json"),
            "inputs": inputs | {"data": str(data_file(params))},
        }
        yield (
            (seed, student, history, card | {"seed": seed} | card_entry(settings, history))
            for seed, student, history in trained
        )


def combined(members: "list[Answering]", settings: Distill) -> "Answering":
    """One teacher of several; a single one is left as it is, with the bits of its store."""
    from prepkd.teaching import Ensemble

    return members[0] if len(members) == 1 else Ensemble(members, settings)


def cached_teacher(
    params: Params, settings: Distill, name: str, lesson: "Lesson", inputs: dict[str, Any]
) -> "tuple[Answering, object]":
    """A teacher that answers from its store, and the store's fingerprints; raises InputError where they don't fit."""
    from prepkd.caching import encoding_of
    from prepkd.models import load_checkpoint
    from prepkd.models.checkpoint import CARD
    from prepkd.store import LogitStore
    from prepkd.teaching import CachedTeacher, check_store
    from prepkd.verify import check_first_batch, check_pixels, check_teacher

    store = LogitStore.open(store_url(params, name))
    encoding = encoding_of(params.cache, lesson.classes)
    check_store(
        store,
        teacher=name,
        plan=lesson.plan,
        dataset=inputs["split_fingerprint"],
        encoding=encoding,
        precision=params.cache.precision,
        batch_size=params.cache.batch_size,
    )
    check_views(store, settings)
    check_pixels(store, lesson.samples)
    if (teacher_folder(name) / CARD).is_file():
        model, card = load_checkpoint(teacher_folder(name), device=lesson.samples.device)
        check_teacher(store, card, teacher_folder(name))
        check_given(card, params.teachers[name].weights, teacher_folder(name))
        check_first_batch(store, model, lesson.samples, first_view(settings, store.views))
    teacher = CachedTeacher(
        store,
        lesson.samples.device,
        resident=settings.view_order == "random",
        resident_gib=settings.resident_gib,
    )
    return teacher, store.attributes["fingerprints"]


def online_teacher(
    params: Params, settings: Distill, name: str, lesson: "Lesson", inputs: dict[str, Any]
) -> "tuple[Answering, object]":
    """A teacher that runs along, and what its answers depend on; raises InputError where it doesn't fit the data."""
    from prepkd.caching import describe_teacher, encoding_of
    from prepkd.files import fingerprint
    from prepkd.models import load_checkpoint
    from prepkd.teaching import OnlineTeacher

    hint = f"run `prepkd train-teacher {name}`"
    model, card = load_checkpoint(teacher_folder(name), device=lesson.samples.device, hint=hint)
    check_card(card, lesson, inputs, teacher_folder(name))
    check_given(card, params.teachers[name].weights, teacher_folder(name))
    cache = params.cache
    teacher = OnlineTeacher(
        model,
        lesson.plan,
        lesson.samples,
        encoding_of(cache, lesson.classes),
        batch_size=cache.batch_size,
        precision=cache.precision,
    )
    made_from = {"teacher": fingerprint(describe_teacher(card | {"name": name}))}
    return teacher, made_from | {"cache": cache.model_dump(mode="json", exclude={"root"})}


def first_view(settings: Distill, views: int) -> int:
    """The view of the first epoch of the first seed; 0 where samples have views of their own."""
    from prepkd.views.order import cycle

    return cycle(settings.seed_list[0], 0, views, 0) if settings.view_order == "cycle" else 0


def check_views(store: "LogitStore", settings: Distill) -> None:
    """Refuse a store that was fetched in part and lacks a view that training will show; raises InputError."""
    from prepkd.store.fetch import views_text
    from prepkd.views.order import cycle

    here = set(store.present)
    if settings.view_order == "random":
        wanted = set(range(store.views))
    else:
        wanted = {cycle(seed, e, store.views, 0) for seed in settings.seed_list for e in range(settings.epochs)}
    if absent := sorted(wanted - here):
        raise InputError(
            f"{store.url}: {len(absent)} of the {len(wanted)} views that training shows were not fetched, view "
            f"{absent[0]} first; `prepkd fetch-views URL --views {views_text(absent)}` brings them"
        )


def check_card(card: dict[str, Any], lesson: "Lesson", inputs: dict[str, Any], folder: Path) -> None:
    """Refuse a teacher of other classes or channels, or one that was trained on another split; raises InputError."""
    wanted = {
        "num_classes": (card["num_classes"], lesson.classes),
        "in_channels": (card["in_channels"], lesson.samples.channels),
    }
    if card.get("training", {}).get("epochs"):  # weights that were given may come from anywhere
        wanted["inputs.split_fingerprint"] = card["inputs"]["split_fingerprint"], inputs["split_fingerprint"]
    refuse_differences(wanted, folder, f"run `prepkd train-teacher {folder.name}`")


def check_given(card: dict[str, Any], weights: Path | None, folder: Path) -> None:
    """Refuse a teacher whose file of weights has changed since it was made; raises InputError."""
    from prepkd.files import file_sha256

    made_from = card.get("weights_from", {}).get("sha256")
    if made_from and weights and weights.is_file():  # the file need not be where the teacher is used
        remedy = f"{weights} has changed; run `prepkd train-teacher {folder.name}`"
        refuse_differences({"weights_from.sha256": (made_from, file_sha256(weights))}, folder, remedy)


def check_training(found: dict[str, Any], wanted: Distill, where: object, remedy: str, *, but: set[str]) -> None:
    """Refuse what was trained with other settings than the ones asked for; raises InputError that names the setting.

    What was trained before a setting came has its default.
    """
    expected = wanted.model_dump(mode="json", exclude={"checkpoint_every", "resident_gib", "source", *but})
    had = validated(Distill, found, f"{where}: training").model_dump(mode="json")
    refuse_differences({f"training.{key}": (had[key], value) for key, value in expected.items()}, where, remedy)


def check_taught_by(made_from: dict[str, Any] | None, settings: Distill, where: object, remedy: str) -> None:
    """Refuse students of a teacher that has been trained anew since; raises InputError."""
    from prepkd.caching import describe_teacher
    from prepkd.files import fingerprint
    from prepkd.models.checkpoint import load_card

    for name in settings.teacher_names if settings.parsed.teacher else []:
        now = fingerprint(describe_teacher(load_card(teacher_folder(name)) | {"name": name}))
        then = (made_from or {}).get(name, {}).get("teacher")
        refuse_differences({f"inputs.teacher.{name}": (then, now)}, where, remedy)


def teacher_test_logits(settings: Distill, test: str) -> "Tensor":
    """The teachers' combined logits (N, K) on the test set of fingerprint `test`; raises InputError."""
    from prepkd.losses.ensemble import combine
    from prepkd.models.checkpoint import load_card
    from prepkd.report.results import read_results

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

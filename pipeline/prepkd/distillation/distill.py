"""Distillation as a whole: check that data, stores and teachers belong together, then train the students."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.both_views import BothViews
from prepkd.distillation.drawn_classes import check_served, draw_note
from prepkd.distillation.feature_supply import (
    cached_features,
    live_supply,
    student_shapes,
)
from prepkd.distillation.student import train_students
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.objective import Objective
from prepkd.methods.term import Shapes
from prepkd.models import Normalised, load_checkpoint
from prepkd.models.checkpoint import CARD
from prepkd.provenance.stores import check_pixels, check_store, check_teacher, check_views
from prepkd.provenance.teacher_files import TeacherFiles, check_given, load_teacher
from prepkd.runtime.files import fingerprint
from prepkd.store import LogitStore
from prepkd.teacher.cached import CachedFeatures, CachedTeacher
from prepkd.teacher.caching import describe_teacher, encoding_of
from prepkd.teacher.ensemble import Ensemble
from prepkd.teacher.forward_pass import raw_logits, ready
from prepkd.teacher.online import OnlineTeacher
from prepkd.teacher.settings import Cache
from prepkd.teacher.supply import Supply
from prepkd.tracking.loggers import Run, Write
from prepkd.training.batches import TeacherAnswers
from prepkd.training.checkpoints import TRAINING_VERSION, Row
from prepkd.training.initial import given_weights, loading_notes, weights_from
from prepkd.training.stopping import card_entry
from prepkd.training.trial import try_student
from prepkd.verification.answers import check_answers, refuse_answers
from prepkd.verification.first_batch import check_first_batch, check_first_features
from prepkd.views.order import VIEW_ORDERS


@contextlib.contextmanager
def distill(
    settings: Distill,
    cache: Cache,
    dataset: Dataset,
    inputs: Mapping[str, Any],
    teachers: Mapping[str, TeacherFiles],
    *,
    scratch: Callable[[str], AbstractContextManager[Path]],
    on_inputs: Callable[[Mapping[str, Any]], None] = lambda inputs: None,
    on_epoch: Callable[[int, Row], None],
    logged: Callable[[Run], AbstractContextManager[Write]],
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Iterator[tuple[int, Normalised, list[Row], dict[str, Any]]]]:
    """Train the students that the settings ask for; yield an iterator of (seed, model, history, card).

    `inputs` are the fingerprints of the data, `teachers` the files of each teacher by name. `on_inputs` gets what the students
    are made from, before they are trained. The work of every seed is kept until the caller leaves the context, so that an
    interrupted run resumes. `say` gets notes, a line each. Raises InputError where files do not belong together, and for a
    student that cannot be trained.
    """
    check_served(settings, cache)
    loaded = try_student(settings, dataset)
    notes = loading_notes(settings, loaded, f"student {settings.student!r}")
    for line in [*notes, *filter(None, [draw_note(settings, cache)])]:
        say(line)
    student = student_shapes(settings, dataset)
    objective = partial(Objective, settings.terms)
    members: dict[str, tuple[TeacherAnswers, object]] = {}
    weak, strong = kinds(dataset, settings)
    strongs: list[TeacherAnswers] = []
    for name, files in teachers.items() if settings.parsed.teacher else ():
        supply: Supply | None = None
        if settings.source == "cached":
            members[name], supply, store = cached_teacher(settings, cache, name, files, dataset, inputs, student)
            if strong:
                strongs.append(stored_answers(settings, store, dataset, strong=True))
        else:
            model = load_teacher(files, dataset, inputs)
            check_live_answers(model[0], weak, cache, files.folder, raw=settings.terms.needs_raw)
            if student:
                supply = live_supply(settings, cache, student, model[0], dataset)
            members[name] = online_teacher(cache, name, model, weak, supply)
            if strong:
                strongs.append(online_teacher(cache, name, model, strong, None)[0])
        if supply:  # of the one teacher
            objective = partial(Objective, settings.terms, student, supply.teacher, len(dataset.samples))
    made_from = dict(inputs) | {"teacher": {name: one for name, (_, one) in members.items()} or None}
    if settings.weights:
        made_from |= given_weights(settings, settings.student, "distill")
    on_inputs(made_from)
    answers = combined([teacher for teacher, _ in members.values()], settings)
    if answers and (other := combined(strongs, settings)):
        answers = BothViews(answers, other)
    with contextlib.ExitStack() as held:
        trained = train_students(
            settings,
            dataset,
            answers,
            objective=objective,
            inputs=made_from,
            scratch=lambda run: held.enter_context(scratch(run)),
            on_epoch=on_epoch,
            logged=logged,
        )
        card = {
            "model": settings.student,
            "num_classes": dataset.classes,
            "class_names": list(dataset.class_names),
            "in_channels": dataset.samples.channels,
            "evaluation": dataset.framing.model_dump(),
            "training": settings.model_dump(mode="json"),
            "training_version": TRAINING_VERSION,
            "inputs": made_from,
            **weights_from(settings, made_from, loaded),
        }
        yield (
            (seed, student, history, card | {"seed": seed} | card_entry(settings, history))
            for seed, student, history in trained
        )


def kinds(dataset: Dataset, settings: Distill) -> tuple[Dataset, Dataset | None]:
    """The data under the plan's weak views, and, if a step shows two views, under its strong ones; raises InputError."""
    plan = dataset.plan
    if settings.views_per_step == 2 and plan.strong is None:
        raise InputError("distill.views_per_step is 2 and the data has one kind of views; set augment_strong")
    strong = replace(dataset, plan=plan.strong) if plan.strong and settings.views_per_step == 2 else None
    return replace(dataset, plan=plan.weak), strong


def combined(members: list[TeacherAnswers], settings: Distill) -> TeacherAnswers | None:
    """One teacher of several; a single one stays as it is, with the bits of its store; None without one."""
    if len(members) < 2:
        return members[0] if members else None
    depth = min(member.prefetch_depth for member in members)
    mode, weights = settings.ensemble.combine, settings.teacher_weights
    return Ensemble(members, mode, weights, tau=settings.teacher_tau, depth=depth)


def cached_teacher(
    settings: Distill,
    cache: Cache,
    name: str,
    files: TeacherFiles,
    dataset: Dataset,
    inputs: Mapping[str, Any],
    student: Shapes,
) -> tuple[tuple[CachedTeacher, object], Supply | None, LogitStore]:
    """A teacher that answers weak views from its stores, their fingerprints, the supply of what feature terms ask, its logits.

    `student` has the shapes of the student's features. Raises InputError for stores that are missing or do not fit.
    """
    store = LogitStore.open_of(files.store, name)
    check_store(
        store,
        teacher=name,
        plan=dataset.plan,
        dataset=inputs["split_fingerprint"],
        encoding=encoding_of(cache, dataset.classes),
        precision=cache.precision,
        batch_size=cache.batch_size,
    )
    order, seeds = VIEW_ORDERS[settings.view_order], settings.seed_list
    views = store.plan.weak.views
    shown, first = order.shown(seeds, settings.epochs, views), order.first(seeds[0], views)
    partners = {view + views for view in shown} if settings.views_per_step == 2 else set()
    check_views(store, shown | partners)
    check_pixels(store, dataset.samples)
    model = None
    if (files.folder / CARD).is_file():
        model, card = load_checkpoint(files.folder, device=dataset.samples.device)
        check_teacher(store, card, files.folder)
        check_given(card, files.weights, files.folder)
        for view in (first, first + views)[: settings.views_per_step]:
            check_first_batch(store, model, dataset.samples, view)
    check_answers(store, first, raw=settings.terms.needs_raw)
    features = cached_features(settings, cache, name, student, store, model, dataset) if student else None
    for one in features.stores.values() if features else ():
        check_views(one, shown)
        if dataset.plan.strong:  # else it has the logits' hash
            check_pixels(one, dataset.samples)
        if model:
            check_first_features(one, model, dataset.samples, first)
    teacher = stored_answers(settings, store, dataset, features)
    made_from: dict[str, object] = dict(store.attributes.fingerprints)
    if features:
        made_from["features"] = {
            name: fingerprint(one.attributes.fingerprints) for name, one in features.stores.items()
        }
    return (teacher, made_from), features.supply if features else None, store


def stored_answers(
    settings: Distill,
    store: LogitStore,
    dataset: Dataset,
    features: CachedFeatures | None = None,
    *,
    strong: bool = False,
) -> CachedTeacher:
    """A teacher that answers one kind of views; raises InputError if they must be in memory and do not fit."""
    return CachedTeacher(
        store,
        dataset.samples.device,
        resident=VIEW_ORDERS[settings.view_order].per_sample,
        resident_gib=settings.resident_gib,
        features=features,
        strong=strong,
    )


def check_live_answers(model: Normalised, dataset: Dataset, cache: Cache, where: object, *, raw: bool) -> None:
    """Refuse a teacher whose answers to its first batch are probabilities, or log-probabilities where `raw` logits are needed.

    Raises InputError.
    """
    samples, plan, part = dataset.samples, dataset.plan, slice(0, cache.batch_size)
    asked = samples.under(plan, 0, part)
    settings: dict[str, Any] = {"batch_size": cache.batch_size, "precision": cache.precision}
    refuse_answers(raw_logits(ready(model), plan, samples, *asked, **settings), where, raw=raw)


def online_teacher(
    cache: Cache, name: str, teacher: tuple[Normalised, Mapping[str, Any]], dataset: Dataset, supply: Supply | None
) -> tuple[OnlineTeacher, object]:
    """A teacher that runs beside the student and supplies what feature terms ask, and what its answers depend on."""
    model, card = teacher
    live = OnlineTeacher(
        model,
        dataset,
        encoding_of(cache, dataset.classes),
        batch_size=cache.batch_size,
        precision=cache.precision,
        supply=supply,
    )
    made_from: dict[str, object] = {"teacher": fingerprint(describe_teacher(dict(card) | {"name": name}))}
    if supply:
        made_from["features"] = {entry.name: fingerprint(entry.describe()) for entry in supply.entries}
    return live, made_from | {"cache": cache.model_dump(mode="json", exclude={"root", "features", "features_root"})}

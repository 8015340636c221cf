"""Distillation as a whole: check that data, stores and teachers belong together, then train the students."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.both_views import BothViews
from prepkd.distillation.drawn_classes import check_encoding, draw_note
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
from prepkd.teacher.caching import logit_encoding
from prepkd.teacher.ensemble import Ensemble
from prepkd.teacher.forward_pass import SampleViews, raw_logits, to_eval
from prepkd.teacher.loaded import LoadedTeacher
from prepkd.teacher.online import OnlineTeacher
from prepkd.teacher.settings import Cache
from prepkd.teacher.supply import Supply
from prepkd.training.batches import TeacherAnswers
from prepkd.training.checkpoints import TRAINING_VERSION
from prepkd.training.context import RunContext, Trained
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
    teachers: Mapping[str, TeacherFiles],
    context: RunContext,
) -> Iterator[Iterator[Trained]]:
    """Train one student per seed; yield an iterator of the trained students.

    `teachers` are the files of each teacher by name. The work of every seed is kept until the caller leaves the context, so
    that an interrupted run resumes. Raises InputError if files do not belong together, or if a student cannot be trained.
    """
    check_encoding(settings, cache)
    loaded = try_student(settings, dataset)
    notes = loading_notes(settings, loaded, f"student {settings.student!r}")
    for line in [*notes, *filter(None, [draw_note(settings, cache)])]:
        context.say(line)
    student = student_shapes(settings, dataset)
    objective = partial(Objective, settings.terms)
    members: dict[str, tuple[TeacherAnswers, object]] = {}
    weak, strong = weak_and_strong(dataset, settings)
    strongs: list[TeacherAnswers] = []
    for name, files in teachers.items() if settings.parsed_method.needs_teacher else ():
        supply: Supply | None = None
        if settings.source == "cached":
            members[name], supply, store = cached_teacher(settings, cache, name, files, dataset, student)
            if strong:
                strongs.append(stored_answers(settings, store, dataset, strong=True))
        else:
            loaded_teacher = load_teacher(name, files, dataset)
            check_live_answers(loaded_teacher.model, weak, cache, files.folder, raw=settings.terms.needs_raw)
            if student:
                supply = live_supply(settings, cache, student, loaded_teacher.model, dataset)
            members[name] = online_teacher(cache, loaded_teacher, weak, supply)
            if strong:
                strongs.append(online_teacher(cache, loaded_teacher, strong, None)[0])
        if supply:  # feature terms have a single teacher
            objective = partial(Objective, settings.terms, student, supply.teacher, len(dataset.samples))
    made_from = dict(dataset.origin) | {"teacher": {name: one for name, (_, one) in members.items()} or None}
    if settings.weights:
        made_from |= given_weights(settings, settings.student, "distill")
    context.on_inputs(made_from)
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
            scratch=lambda run: held.enter_context(context.scratch(run)),
            context=context,
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
            Trained(seed, student, history, card | {"seed": seed} | card_entry(settings, history))
            for seed, student, history in trained
        )


def weak_and_strong(dataset: Dataset, settings: Distill) -> tuple[Dataset, Dataset | None]:
    """Return the data with the plan's weak views and, if a step shows two views, with its strong ones; raises InputError."""
    plan = dataset.plan
    if settings.views_per_step == 2 and plan.strong is None:
        raise InputError("distill.views_per_step is 2 and the data has one kind of views; set augment_strong")
    strong = replace(dataset, plan=plan.strong) if plan.strong and settings.views_per_step == 2 else None
    return replace(dataset, plan=plan.weak), strong


def combined(members: list[TeacherAnswers], settings: Distill) -> TeacherAnswers | None:
    """Combine teachers into one; a single teacher is returned as it is, with its store's exact bits; None without a teacher."""
    if len(members) < 2:
        return members[0] if members else None
    depth = min(member.prefetch_depth for member in members)
    mode, weights = settings.ensemble.combine, settings.teacher_weights
    return Ensemble(members, mode, weights, tau=settings.teacher_tau, depth=depth)


def cached_teacher(
    settings: Distill, cache: Cache, name: str, files: TeacherFiles, dataset: Dataset, student: Shapes
) -> tuple[tuple[CachedTeacher, object], Supply | None, LogitStore]:
    """Open and check a teacher's stores for weak views; return ((teacher, fingerprints), feature supply, logit store).

    `student` has the shapes of the student's features. Raises InputError for stores that are missing or do not fit.
    """
    store = LogitStore.open_of(files.store, name)
    check_store(
        store,
        teacher=name,
        plan=dataset.plan,
        dataset=dataset.origin["split_fingerprint"],
        encoding=logit_encoding(cache, dataset.classes),
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
    features = None
    if student:
        features = cached_features(settings, cache, name, student, store, model, dataset, files.generation)
    for one in features.stores.values() if features else ():
        check_views(one, shown)
        if dataset.plan.strong:  # otherwise its hash of the pixels is that of the logits, checked above
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
    """Return a teacher that answers one kind of views; raises InputError if its stores must be in memory and do not fit."""
    return CachedTeacher(
        store,
        dataset.samples.device,
        resident=VIEW_ORDERS[settings.view_order].per_sample,
        resident_gib=settings.resident_gib,
        features=features,
        strong=strong,
    )


def check_live_answers(model: Normalised, dataset: Dataset, cache: Cache, where: object, *, raw: bool) -> None:
    """Raise InputError if a teacher's first batch gives probabilities, or log-probabilities although `raw` logits are needed."""
    first = SampleViews.of(dataset, 0, slice(0, cache.batch_size))
    logits = raw_logits(to_eval(model), first, batch_size=cache.batch_size, precision=cache.precision)
    refuse_answers(logits, where, raw=raw)


def online_teacher(
    cache: Cache, teacher: LoadedTeacher, dataset: Dataset, supply: Supply | None
) -> tuple[OnlineTeacher, object]:
    """Return a teacher that runs beside the student, and a description of everything that its answers depend on."""
    live = OnlineTeacher(
        teacher.model,
        dataset,
        logit_encoding(cache, dataset.classes),
        batch_size=cache.batch_size,
        precision=cache.precision,
        supply=supply,
    )
    made_from: dict[str, object] = {"teacher": fingerprint(teacher.describe())}
    if supply:
        made_from["features"] = {entry.name: fingerprint(entry.describe()) for entry in supply.entries}
    return live, made_from | {"cache": cache.model_dump(mode="json", exclude={"root", "features", "features_root"})}

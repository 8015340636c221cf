"""The teachers of a distillation: opened, checked against data and settings, and asked for the answers that a method needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.both_views import BothViews
from prepkd.distillation.feature_supply import cached_features, live_supply
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.term import Shapes
from prepkd.models import Normalised, load_checkpoint
from prepkd.models.weight_claims import CARD
from prepkd.provenance.stores import check_pixels, check_store, check_teacher, check_views
from prepkd.provenance.teacher_files import TeacherFiles, check_given, load_teacher
from prepkd.runtime.files import fingerprint
from prepkd.store import LogitStore
from prepkd.teacher.cached import CachedFeatures, CachedTeacher
from prepkd.teacher.caching import logit_encoding
from prepkd.teacher.ensemble import Ensemble
from prepkd.teacher.forward_pass import SampleViews, raw_logits, to_eval
from prepkd.teacher.online import OnlineTeacher
from prepkd.teacher.settings import Cache
from prepkd.teacher.supply import Supply
from prepkd.training.batches import TeacherAnswers
from prepkd.verification.answers import check_answers, refuse_answers
from prepkd.verification.first_batch import check_first_batch
from prepkd.views.order import VIEW_ORDERS


@dataclass(frozen=True)
class AskedTeacher:
    """A teacher's answers to the weak views and, if a step shows two views, to the strong ones.

    `supply`: the source of the tensors for feature terms; `made_from`: fingerprints of everything that the answers depend on.
    """

    weak: TeacherAnswers
    strong: TeacherAnswers | None
    supply: Supply | None
    made_from: dict[str, object]


def cached_teacher(
    settings: Distill, cache: Cache, name: str, files: TeacherFiles, dataset: Dataset, student: Shapes
) -> AskedTeacher:
    """Open a teacher's stores and check them.

    `student` has the shapes of the student's features. Raises InputError for stores that are missing or do not fit.
    """
    store = LogitStore.open(files.store, teacher=name)
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
            check_first_batch(one, model, dataset.samples, first)
    made_from: dict[str, object] = dict(store.attributes.fingerprints)
    if features:
        made_from["features"] = {
            name: fingerprint(one.attributes.fingerprints) for name, one in features.stores.items()
        }
    return AskedTeacher(
        stored_answers(settings, store, dataset, features),
        stored_answers(settings, store, dataset, strong=True) if settings.views_per_step == 2 else None,
        features.supply if features else None,
        made_from,
    )


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


def live_teacher(
    settings: Distill, cache: Cache, name: str, files: TeacherFiles, dataset: Dataset, student: Shapes
) -> AskedTeacher:
    """Load a teacher that runs beside the student.

    `student` has the shapes of the student's features. Raises InputError for a checkpoint that is missing or does not fit.
    """
    weak, strong = weak_and_strong(dataset, settings)
    loaded = load_teacher(name, files, dataset)
    check_live_answers(loaded.model, weak, cache, files.folder, raw=settings.terms.needs_raw)
    supply = live_supply(settings, cache, student, loaded.model, dataset) if student else None
    made_from: dict[str, object] = {"teacher": fingerprint(loaded.describe())}
    if supply:
        made_from["features"] = {entry.name: fingerprint(entry.describe()) for entry in supply.entries}
    made_from["cache"] = cache.answer_settings()
    return AskedTeacher(
        online_teacher(cache, loaded.model, weak, supply),
        online_teacher(cache, loaded.model, strong, None) if strong else None,
        supply,
        made_from,
    )


def joint_answers(asked: Sequence[AskedTeacher], settings: Distill) -> TeacherAnswers | None:
    """The answers of all teachers as those of one, to one or both kinds of views; None without a teacher."""
    weak = combined([one.weak for one in asked], settings)
    strong = combined([one.strong for one in asked if one.strong], settings)
    return BothViews(weak, strong) if weak and strong else weak


def combined(members: list[TeacherAnswers], settings: Distill) -> TeacherAnswers | None:
    """Combine teachers into one; a single teacher is returned as it is, with its store's exact bits; None without a teacher."""
    if len(members) < 2:
        return members[0] if members else None
    depth = min(member.prefetch_depth for member in members)
    mode, weights = settings.ensemble.combine, settings.teacher_weights
    return Ensemble(members, mode, weights, tau=settings.teacher_tau, depth=depth)


def check_strong_views(settings: Distill, dataset: Dataset) -> None:
    """Raise InputError if a step shows two views of a sample, and the data has one kind of views."""
    if settings.views_per_step == 2 and dataset.plan.strong is None:
        raise InputError("distill.views_per_step is 2 and the data has one kind of views; set augment_strong")


def weak_and_strong(dataset: Dataset, settings: Distill) -> tuple[Dataset, Dataset | None]:
    """Return the data with the plan's weak views and, if a step shows two views, with its strong ones."""
    plan = dataset.plan
    strong = replace(dataset, plan=plan.strong) if plan.strong and settings.views_per_step == 2 else None
    return replace(dataset, plan=plan.weak), strong


def check_live_answers(model: Normalised, dataset: Dataset, cache: Cache, where: object, *, raw: bool) -> None:
    """Raise InputError if a teacher's first batch gives probabilities, or log-probabilities although `raw` logits are needed."""
    first = SampleViews.of(dataset, 0, slice(0, cache.batch_size))
    logits = raw_logits(to_eval(model), first, batch_size=cache.batch_size, precision=cache.precision)
    refuse_answers(logits, where, raw=raw)


def online_teacher(cache: Cache, model: Normalised, dataset: Dataset, supply: Supply | None) -> OnlineTeacher:
    """Return a teacher that runs beside the student."""
    return OnlineTeacher(
        model,
        dataset,
        logit_encoding(cache, dataset.classes),
        batch_size=cache.batch_size,
        precision=cache.precision,
        supply=supply,
    )

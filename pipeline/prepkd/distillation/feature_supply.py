"""The source of a method's feature tensors: the teacher's stores of features, or the live teacher."""

from collections.abc import Mapping, Sequence

from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.entries import Entry, entries_for, make_entries, make_entry
from prepkd.methods.missing_features import features_of
from prepkd.methods.term import Shapes
from prepkd.models import Normalised
from prepkd.models.features import feature_shapes
from prepkd.provenance.features import check_features, entry_of
from prepkd.store import FeatureStore, LogitStore
from prepkd.store.layout import MANIFEST
from prepkd.store.place import exists, open_place
from prepkd.teacher.cached import CachedFeatures
from prepkd.teacher.feature_caching import store_cost
from prepkd.teacher.settings import Cache
from prepkd.teacher.supply import Supply
from prepkd.training.initial import untrained_from


def student_shapes(settings: Distill, dataset: Dataset) -> Shapes:
    """Return the shapes of the student's features that the method reads; empty if it reads none."""
    if not settings.features_read:
        return {}
    student = untrained_from(settings.student, settings, dataset)
    return feature_shapes(student, settings.features_read, dataset.samples.size)


def teacher_entries(settings: Distill, names: Sequence[str], teacher: Normalised, dataset: Dataset) -> list[Entry]:
    """Make the entries of these names, in the sizes that the settings' student needs.

    Raises InputError for a feature that a model does not have.
    """
    student = untrained_from(settings.student, settings, dataset)
    return make_entries(settings.entry_terms(names), student, teacher, dataset.samples.size)


def live_supply(settings: Distill, cache: Cache, student: Shapes, teacher: Normalised, dataset: Dataset) -> Supply:
    """Return the supply of a live teacher: the entries of `cache.features` that serve a term, else the term's own entry."""
    with features_of(f"the teacher of method {settings.method}", settings.terms.feature_terms):
        shapes = feature_shapes(teacher, settings.terms.teacher_features, dataset.samples.size)
    names = entry_names(settings, cache)
    entries = [make_entry(name, term, student, shapes) for name, term in settings.entry_terms(names).items()]
    return Supply(settings.terms.feature_terms, entries, student)


def cached_features(
    settings: Distill,
    cache: Cache,
    name: str,
    student: Shapes,
    logits: LogitStore,
    teacher: Normalised | None,
    dataset: Dataset,
    generation: str | None = None,
) -> CachedFeatures:
    """Return the feature tensors that the terms need, from the stores of the teacher `name`; `teacher` is its model, if present.

    `generation` is the generation in training, None for the students of `distill`. Raises InputError for stores that are
    missing, or that do not fit the settings, the student or the logits.
    """
    stores, missing = feature_stores(settings, cache, name)
    if missing:
        sizes = costs(settings, cache, student, teacher, dataset) if teacher else {}
        raise InputError(not_cached(settings, cache, name, missing, sizes, generation))
    entries = fitting_entries(settings, stores, student, logits, generation)
    return CachedFeatures(
        Supply(settings.terms.feature_terms, entries, student), stores, cache.batch_size, cache.precision
    )


def feature_stores(settings: Distill, cache: Cache, name: str) -> tuple[dict[str, FeatureStore], list[str]]:
    """Return the feature stores of the teacher `name` that the method reads, by entry, and the missing entries."""
    urls = {entry: cache.feature_url(name, entry) for entry in settings.entries_read(cache.features)}
    stores = {entry: FeatureStore.open(url) for entry, url in urls.items() if exists(open_place(url), MANIFEST)}
    return stores, [entry for entry in entry_names(settings, cache) if entry not in stores]


def fitting_entries(
    settings: Distill,
    stores: Mapping[str, FeatureStore],
    student: Shapes,
    logits: LogitStore,
    generation: str | None = None,
) -> list[Entry]:
    """Return the entries of the stores; raises InputError for one that does not fit the settings, the student or the logits."""
    entries, command = [], caching_command(logits.attributes.teacher.name, generation)
    for entry, term in settings.entry_terms(list(stores)).items():
        found = entry_of(stores[entry])
        reads = set(term.features_of_teacher) if term else {entry}
        wanted = make_entry(entry, term, student, found.teacher) if reads == found.teacher.keys() else None
        check_features(stores[entry], found, wanted, logits, command)
        entries.append(found)
    return entries


def entry_names(settings: Distill, cache: Cache) -> list[str]:
    """Return the entries that the feature terms need: those of `cache.features` that serve a term, else the term's own."""
    return entries_for(settings.terms.feature_terms, cache.features)


def not_cached(
    settings: Distill,
    cache: Cache,
    name: str,
    missing: Sequence[str],
    sizes: Mapping[str, str],
    generation: str | None = None,
) -> str:
    """Return one line: the entries that are not cached, their sizes, and how to add them."""
    unlisted = [entry for entry in missing if entry not in cache.features]
    add = f"add {', '.join(unlisted)} to cache.features and run" if unlisted else "run"
    what = "; ".join(sizes.get(entry, entry) for entry in missing)
    section = f"generations.{generation}" if generation else "distill"
    return (
        f"method {settings.method} needs features of teacher {name!r} that are not cached ({what}); "
        f"{add} `{caching_command(name, generation)}`, or set {section}.source: online"
    )


def caching_command(name: str, generation: str | None) -> str:
    """The command that caches features of the teacher `name` for a generation, or for the students of `distill`."""
    return f"prepkd cache-features {name}" + (f" --generation {generation}" if generation else "")


def costs(settings: Distill, cache: Cache, student: Shapes, teacher: Normalised, dataset: Dataset) -> dict[str, str]:
    """Return one line per entry that the method reads: its content and its bytes."""
    supply = live_supply(settings, cache, student, teacher, dataset)
    return {entry.name: store_cost(entry, dataset.plan.views, dataset.plan.samples) for entry in supply.entries}

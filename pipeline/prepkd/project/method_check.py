"""Check a method against a project's settings and files: the pair of models, and the obstacles to training it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from prepkd.catalogue import requirements
from prepkd.catalogue.rows import MethodSummary
from prepkd.data.prepared.file import DataInfo, describe
from prepkd.distillation.drawn_classes import encoding_conflict
from prepkd.distillation.feature_supply import feature_stores, fitting_entries, not_cached
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.entries import make_entries
from prepkd.methods.grammar import parse_method
from prepkd.models import load_card
from prepkd.models.features import feature_shapes
from prepkd.models.given_folder import preprocessing_of
from prepkd.project.params import Params
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.settings.validation import validated
from prepkd.store import LogitStore
from prepkd.teacher.feature_caching import store_cost
from prepkd.views import ViewPlan, parse_recipe, view_side


def project_pair(params: Params, data: DataInfo) -> requirements.Pair:
    """The project's untrained teacher (the first of several) and student, with the size of its views.

    Raises InputError for a model that cannot be built, and for pictures of different sizes.
    """
    teacher, shape = params.all_teachers[params.distill.teacher_names[0]], data.image_shape
    recipe = parse_recipe(params.augment)
    side = view_side(recipe)
    if side:
        size = side, side
    elif shape:
        size = shape[0], shape[1]
    else:
        raise InputError("the images' sizes differ; expected `augment` to start with a resized crop of one size")
    shown = requirements.DataShape(
        size,
        channels=shape[2] if shape else 3,
        classes=len(data.class_names),
        samples=data.splits["train"],
        views=ViewPlan(recipe, params.cache.views, 0, samples=1).views,
    )
    preprocessing = (
        preprocessing_of(teacher.weights, teacher.own_preprocessing),
        preprocessing_of(params.distill.weights, params.distill.own_preprocessing),
    )
    return requirements.untrained_pair(teacher.model, params.distill.student, shown, preprocessing)


def models_for(params: Params, data: Path) -> tuple[requirements.Pair, str]:
    """The project's models, or the example's with the reason if the prepared data are missing or unsuitable."""
    try:
        return project_pair(params, describe(data)), ""
    except InputError as error:
        models = requirements.example()
        return models, f"{error}; bytes are for {models.described}"


def obstacles(
    params: Params | None,
    found: MethodSummary,
    models: requirements.Pair | None,
    data: Path,
    teachers: Mapping[str, TeacherFiles],
) -> list[str]:
    """The reasons why a method cannot be trained, one per line: settings, features of the models, files.

    `models` are the project's, None before its data are prepared; `teachers` maps names to their files.
    """
    lines = [*contradictions(params, found.method), *(row.asked.problem for row in found.rows if row.asked.problem)]
    if params:
        # Stores of features are checked only for a method that the settings and models allow.
        readers = needed_files(params, found.method, models, data, teachers, features=not lines)
        lines += unreadable(readers)
    return list(dict.fromkeys(lines))


def contradictions(params: Params | None, method: str) -> Iterator[str]:
    """Yield the validation errors of the settings with this method; weights count as `auto`."""
    try:
        if params:
            if why := encoding_conflict(params.variant(method), params.cache):
                yield why
        else:
            validated(Distill, {"teacher": "t", "student": "resnet8x4", "epochs": 1, "method": method}, method)
    except InputError as error:
        yield str(error).removeprefix(f"run {method!r}: ").removeprefix(f"{method}: ")


def unreadable(files: Iterable[Callable[[], object]]) -> Iterator[str]:
    """Yield the InputErrors of the readers in `files` as text."""
    for read in files:
        try:
            read()
        except InputError as error:
            yield str(error)


def needed_files(
    params: Params,
    method: str,
    models: requirements.Pair | None,
    data: Path,
    teachers: Mapping[str, TeacherFiles],
    *,
    features: bool,
) -> Iterator[Callable[[], object]]:
    """Yield a reader per file that a method needs: the prepared data, each teacher's store or card, and stores of `features`."""
    yield partial(describe, data)
    parsed, cached = parse_method(method), params.distill.source == "cached"
    for name, files in teachers.items() if parsed.needs_teacher else ():
        yield partial(open_store, files.store, name, parsed.views) if cached else partial(load_card, files.folder)
        if cached and parsed.feature_terms and features:
            yield partial(open_features, params, method, name, models, files.store)


def open_store(url: str, name: str, views: int) -> LogitStore:
    """Open a teacher's store; raises InputError if it lacks strong views and the method compares two `views`."""
    store = LogitStore.open(url, teacher=name)
    if views == 2 and store.plan.strong is None:
        raise InputError(f"{url}: holds no strong views; set augment_strong and run `prepkd cache-logits {name}`")
    return store


def open_features(params: Params, method: str, name: str, models: requirements.Pair | None, logits: str) -> None:
    """Open the stores of a teacher's features that the method reads; `models` are the project's, if its data are prepared.

    Raises InputError for entries that are not cached, and for stores that do not fit the settings, the student or the store of
    `logits`.
    """
    settings = params.variant(method)
    stores, missing = feature_stores(settings, params.cache, name)
    if missing:
        raise InputError(not_cached(settings, params.cache, name, missing, _costs(settings, missing, models)))
    if models:
        student = feature_shapes(models.student, settings.features_read, models.size)
        fitting_entries(settings, stores, student, LogitStore.open(logits, teacher=name))


def _costs(settings: Distill, entries: Sequence[str], models: requirements.Pair | None) -> dict[str, str]:
    """The content and size of each entry in one line, by name."""
    if models is None:
        return {}
    made = make_entries(settings.entry_terms(entries), models.student, models.teacher, models.size)
    return {entry.name: store_cost(entry, models.views, models.samples) for entry in made}

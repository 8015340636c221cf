"""The cost of a project's settings, or of a cache of given size without a project."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from prepkd.costs.cost import Cost, Memory, Rates, StoreCost
from prepkd.costs.memory import Combine, caching_memory, training_memory
from prepkd.data.prepared.file import DataInfo, describe
from prepkd.distillation.feature_supply import entry_names
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.entries import make_entries
from prepkd.project.method_check import project_pair
from prepkd.project.params import Params
from prepkd.settings.validation import override, validated
from prepkd.store.layout import Layout
from prepkd.teacher.caching import logit_layout
from prepkd.teacher.ensemble import combine
from prepkd.teacher.feature_caching import feature_layout
from prepkd.teacher.settings import Cache
from prepkd.views import ViewPlan, make_plan
from prepkd.views.order import VIEW_ORDERS

# The views of a cache without a project: those under which ImageNet's models are trained.
ASSUMED = [{"resized-crop": {"size": 224}}, "flip"]


@dataclass(frozen=True)
class DataSizes:
    """The numbers of training samples and of classes, if given instead of the prepared data's."""

    samples: int | None = None
    classes: int | None = None


def project_cost(params: Params, sizes: DataSizes, rates: Rates, data: Path) -> Cost:
    """The cost of a project's settings; the prepared file `data` may be missing if it is not needed. Raises InputError."""
    names = list(dict.fromkeys([*params.cache.features, *entry_names(params.distill, params.cache)]))
    info = data_info(data, needed=bool(names) or None in (sizes.samples, sizes.classes))
    samples = sizes.samples or (info.splits["train"] if info else 0)
    classes = sizes.classes or (len(info.class_names) if info else 0)
    plan = partial(make_plan, params.augment, params.cache.views, params.cache.seed, samples)
    layouts = {}
    if names and info:
        models = project_pair(params, info)
        made = make_entries(params.distill.entry_terms(names), models.student, models.teacher, models.size)
        layouts = {one.name: feature_layout(params.cache, plan(), one) for one in made}
    return cost_of(
        logit_layout(params.cache, plan(params.augment_strong), classes),
        layouts,
        classes,
        params.distill,
        params.distill.entries_read(names),
        rates,
        image_bytes(info, samples),
    )


def cost_without_project(
    samples: int | None, classes: int | None, views: str | None, encoding: str | None, epochs: int | None, rates: Rates
) -> Cost:
    """The cost of a cache of this size, whose views are `ASSUMED`; raises InputError if a size is missing."""
    if samples is None or classes is None or views is None:
        raise InputError(
            "params.yaml: no such file; run in the project's root, or give --samples, --classes and --views"
        )
    given: dict[str, Any] = {}
    for key, text in {"views": views, "encoding": encoding}.items():
        if text is not None:
            override(given, f"{key}={text}", where="prepkd plan")
    cache = validated(Cache, given, "prepkd plan")
    if cache.views == "all":
        raise InputError("--views is all, of a recipe that is not known without params.yaml; expected a count")
    layout = logit_layout(cache, ViewPlan(ASSUMED, cache.views, 0, samples), classes)
    training = validated(
        Distill, {"teacher": "the teacher", "student": "resnet8", "epochs": epochs or 1}, "prepkd plan"
    )
    found = cost_of(layout, {}, classes, training, [], rates, None)
    return replace(found, epochs=epochs, recipe=f"{found.recipe} (assumed: no params.yaml)")


def data_info(path: Path, *, needed: bool) -> DataInfo | None:
    """The summary of the prepared data; None if there are none and they are not needed. Raises InputError."""
    if not needed and not path.is_file():
        return None
    try:
        return describe(path)
    except InputError as error:
        if path.is_file():
            raise
        raise InputError(f"{error}, or give --samples and --classes (feature terms need the data)") from None


def image_bytes(info: DataInfo | None, samples: int) -> int | None:
    """Bytes of the images that a process holds: those of all splits, 0 if they stay encoded on disk, None if not known."""
    if info is None:
        return None
    if info.encoded or info.image_shape is None:
        return 0
    held_out = sum(info.splits.values()) - info.splits["train"]
    return (samples + held_out) * prod(info.image_shape)


def cost_of(
    logits: Layout,
    features: Mapping[str, Layout],
    classes: int,
    settings: Distill,
    read: Sequence[str],
    rates: Rates,
    images: int | None,
) -> Cost:
    """The cost of one store of logits per teacher, and of the stores of `features`; epochs read those named in `read`."""
    teachers, shown = settings.teacher_names, settings.views_per_step if settings.parsed_method.needs_teacher else 0
    stores = [StoreCost.of(one, None, logits, shown) for one in teachers]
    stores += [StoreCost.of(teachers[0], name, layout, int(name in read)) for name, layout in features.items()]
    kinds = [[logits] * len(teachers) + [features[name] for name in read], [logits] * len(teachers)][:shown]
    resident = VIEW_ORDERS[settings.view_order].per_sample
    memory = Memory(
        max(map(caching_memory, [logits, *features.values()])),
        training_memory(kinds, _combine(settings), resident=resident),
        images,
    )
    described = logits.encoding.describe()
    own = ", ".join(f"{key} {value:g}" for key, value in described.items() if key != "name")
    recipe = ", ".join(name for name, _ in logits.plan.weak.recipe) or "no augmentation"
    return Cost(
        logits.plan.samples,
        classes,
        logits.plan.weak.views,
        recipe + (" and strong views" if logits.plan.strong else ""),
        f"{described['name']}{f' ({own})' if own else ''}",
        tuple(teachers),
        shown,
        settings.epochs,
        stores,
        memory,
        rates,
    )


def _combine(settings: Distill) -> Combine | None:
    """The combination of several teachers' answers; None for one teacher."""
    if len(settings.teacher_names) == 1:
        return None
    mode, weights = settings.ensemble.combine, settings.teacher_weights
    return partial(combine, mode=mode, weights=weights, tau=settings.teacher_tau)

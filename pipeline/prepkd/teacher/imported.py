"""Write logits from elsewhere to a store: check what can be checked, and record what cannot."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from prepkd.data.images.channels import channel_statistics
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.labels import main_class
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.display.text import counted
from prepkd.errors import InputError
from prepkd.models.agreement import agreement
from prepkd.models.logit_checks import check_logits
from prepkd.runtime.files import file_sha256
from prepkd.store.attributes import IMPORTED, Attributes
from prepkd.store.destination import Destination
from prepkd.store.encodings import LogitEncoding, encode_in_blocks, words_of
from prepkd.store.layout import Layout
from prepkd.store.write_store import StorePlan, WriteResult, write_store
from prepkd.teacher.caching import FIRST_BATCHES, FirstBatches, logit_encoding, plan_store
from prepkd.teacher.logit_files import LogitFile
from prepkd.teacher.settings import Cache
from prepkd.views import Recipe, ViewPlan, describe_recipe

UNVERIFIED = (
    "that these logits answer these pixels: how images were read, resized, normalised and augmented",
    "which model and which weights gave them",
    "the arithmetic, batch size, device and versions",
    "the order of samples and classes, beyond the agreement with the labels",
)


def dataset_for_import(data: Path, raw: Tensor, recipe: Recipe, views: int | str | None, seed: int) -> Dataset:
    """Read the training samples that logits (V, N, K) are for, under the declared views.

    `views` is a count, "all", or None for the logits' own V. Raises InputError if the numbers of views, samples or classes
    differ.
    """
    info = describe(data)
    train = load_split(data, "train")
    count, samples, classes = raw.shape
    if samples != len(train.labels):
        raise InputError(
            f"the logits are of {samples} samples, {data} has {len(train.labels)} in train; one row for each"
        )
    if classes != len(info.class_names):
        raise InputError(
            f"the logits are of {classes} classes, {data} has {len(info.class_names)}; one column for each"
        )
    plan = ViewPlan(recipe, count if views is None else views, seed, samples)  # type: ignore[arg-type]
    if plan.views != count:
        raise InputError(
            f"the logits are of {counted(count, 'view')}, --views {views} with this recipe makes {plan.views}"
        )
    if not recipe and count > 1:
        raise InputError(f"the logits are of {count} views, --recipe [] makes one, the image itself; name the recipe")
    return Dataset(
        Samples.of(train, torch.device("cpu"), plan.recipe),
        {},
        plan,
        Preprocessing.from_statistics(channel_statistics(train.images)),
        len(info.class_names),
        origin={
            "dataset": info.dataset,
            "dataset_fingerprint": info.fingerprint,
            "split_fingerprint": train.fingerprint,
            "device": "unknown",
        },
    )


def import_logits(
    name: str, logits: LogitFile, dataset: Dataset, settings: Cache, destination: Destination
) -> WriteResult:
    """Write the store of logits (V, N, K) read from a file, as those of the teacher `name`.

    Raises InputError as `write_store`, and, before anything is written, if the logits cannot be encoded.
    """
    encoding = logit_encoding(settings, dataset.classes)
    layout, attributes = plan_import(name, logits, dataset, settings)
    answers = partial(imported_answers, logits.raw, dataset, encoding)
    for view in range(layout.plan.views):
        for chunk in range(layout.chunks):
            answers(view, layout.slice(chunk))
    return write_store(StorePlan(layout, attributes, answers, dataset.labels), destination)


def plan_import(name: str, logits: LogitFile, dataset: Dataset, settings: Cache) -> tuple[Layout, Attributes]:
    """The layout and the attributes of a store of imported logits (V, N, K)."""
    unknown = {"name": name, "model": IMPORTED, "weights_fingerprint": None, "preprocessing": None}
    part = slice(0, FIRST_BATCHES * settings.batch_size)
    first = FirstBatches(logits.raw[0, part], dataset.labels(0, part), 0.0)
    layout, cached = plan_store(settings, dataset, unknown, first)
    # The same sections as a cached store's, so that readers find every key; unknown values are marked as such.
    sections = cached.sections | {
        "teacher": unknown | {"source": {"file": logits.path.name, "sha256": file_sha256(logits.path)}},
        "precision": {"arithmetic": "unknown", "batch_size": None, "device": "unknown"},
    }
    others = {"measured": cached.model_dump()["measured"], "unverified": list(unverified(dataset.plan))}
    return layout, Attributes.made_from(sections, **others)


def unverified(plan: ViewPlan) -> tuple[str, ...]:
    """The statements that the logits alone cannot prove."""
    if not plan.recipe:
        return UNVERIFIED
    declared = f"that the views are those of recipe {describe_recipe(plan.recipe)}, seed {plan.seed}"
    return (*UNVERIFIED, declared)


def imported_answers(
    raw: Tensor, dataset: Dataset, encoding: LogitEncoding, view: int, part: slice
) -> dict[str, Tensor]:
    """Encode some samples of a view of imported logits (V, N, K): the arrays of one chunk."""
    words = words_of(encoding, dataset.plan, view, part)
    return encode_in_blocks(encoding, raw[view, part], dataset.labels(view, part), words)


def report(logits: LogitFile, dataset: Dataset, data: Path, url: str, written: WriteResult) -> list[str]:
    """Lines on an import: sizes, findings, the teacher's error, and the manifest's hash."""
    plan = dataset.plan
    converted = "" if logits.dtype == "float32" else f", {logits.dtype} converted to float32"
    return [
        f"{logits.path}: {counted(plan.views, 'view')} x {plan.samples:,} samples x {dataset.classes} classes{converted}",
        *findings(logits, dataset, data),
        *written.report(url)[-2:],  # without the number of chunks
    ]


def findings(logits: LogitFile, dataset: Dataset, data: Path) -> list[str]:
    """Lines on the logits (V, N, K) of a file: what was checked, what is doubtful, what cannot be verified."""
    raw = logits.raw
    found = {view: agreement(raw[view], main_class(dataset.labels(view, slice(None)))) for view in range(len(raw))}
    checked = f"checked: views, samples and classes are as many as in {data}, every value is finite"
    lines = [checked + ", labels agree above chance"]
    if doubtful := [view for view, one in found.items() if one.doubtful]:
        first = found[doubtful[0]]
        lines = [
            checked,
            f"warning: {len(doubtful)} of {len(found)} views agree with the labels no better than chance: view "
            f"{doubtful[0]} {first.top1:.1%}, chance {first.chance:.1%}; are samples and classes in the data's order?",
        ]
    if doubt := check_logits(raw, logits.path):
        lines.append(f"warning: {doubt}")
    if permuted := [view for view, one in found.items() if one.out_of_order]:
        first = found[permuted[0]]
        lines.append(
            f"warning: view {permuted[0]} agrees with {first.permuted:.1%} of the labels if the classes are put in another "
            f"order, with {first.top1:.1%} as they are; put them in the order of {data}"
        )
    return lines + [f"not verified: {text}" for text in unverified(dataset.plan)]

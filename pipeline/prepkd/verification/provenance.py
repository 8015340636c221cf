"""Checks that files belong together: what a file was made from, compared with what is asked for."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError, refuse_differences
from prepkd.models import Normalised
from prepkd.models.checkpoint import load_card
from prepkd.models.logit_checks import ROWS, are_log_probabilities, check_logits
from prepkd.models.weight_claims import order_problem
from prepkd.models.weight_files import weights_file
from prepkd.runtime.files import file_sha256, fingerprint
from prepkd.store import AnswerStore, LogitStore
from prepkd.store.encodings import LogitEncoding
from prepkd.store.fetch import views_text
from prepkd.teacher.caching import describe_teacher, pixel_hash
from prepkd.verification.discrepancy import live_reference, measure_discrepancy
from prepkd.verification.query import Query, batch_size, live_logits, recorded_pixels
from prepkd.verification.sampling import stored_rows
from prepkd.views import ViewPlan


def check_store(
    store: LogitStore,
    *,
    teacher: str,
    plan: ViewPlan,
    dataset: str,
    encoding: LogitEncoding,
    precision: str,
    batch_size: int,
) -> None:
    """Refuse a store of another teacher (by name), other samples (the split's fingerprint), plan, encoding or precision.

    The precision of an imported store is unknown and not compared. Raises InputError.
    """
    found = store.attributes
    views, kept = found.views.model_dump(), found.encoding.model_dump()
    wanted = plan.describe()
    computed = {
        "precision.arithmetic": (found.precision.arithmetic, precision),
        "precision.batch_size": (found.precision.batch_size, batch_size),
    }
    refuse_differences(
        {
            "teacher.name": (found.teacher.name, teacher),
            "dataset.split_fingerprint": (found.dataset.split_fingerprint, dataset),
            "dataset.classes": (found.dataset.classes, encoding.classes),
            **{f"views.{key}": (views.get(key), wanted.get(key)) for key in dict.fromkeys([*wanted, "strong"])},
            **{f"encoding.{key}": (kept.get(key), value) for key, value in encoding.describe().items()},
            **(computed if found.precision.arithmetic != "unknown" else {}),
        },
        store.url,
        f"change the settings, or run `prepkd cache-logits {teacher}` again",
    )


def check_teacher(store: AnswerStore, card: dict[str, Any], where: object, remedy: str | None = None) -> None:
    """Refuse a checkpoint other than the one that the store was made with; raises InputError."""
    made = store.attributes.teacher
    refuse_differences(
        {
            "teacher.weights_fingerprint": (made.weights_fingerprint, card["weights_fingerprint"]),
            "teacher.model": (made.model, card["model"]),
            "teacher.preprocessing": (made.preprocessing, card["preprocessing"]),
        },
        f"{store.url} against {where}",
        remedy or f"run `prepkd cache-logits {made.name}` again",
    )


def check_data(store: AnswerStore, fingerprint: str, classes: int, samples: int, where: object) -> None:
    """Refuse samples that are not the store's, by the split's fingerprint and both counts; raises InputError."""
    made = store.attributes.dataset
    refuse_differences(
        {
            "dataset.split_fingerprint": (made.split_fingerprint, fingerprint),
            "dataset.classes": (made.classes, classes),
            "views.samples": (store.samples, samples),
        },
        f"{store.url} against {where}",
        "name the file that the store was made from with --data",
    )


def check_num_classes(store: AnswerStore, card: dict[str, Any], where: object) -> None:
    """Refuse a checkpoint of another number of classes; raises InputError."""
    refuse_differences(
        {"num_classes": (card["num_classes"], store.attributes.dataset.classes)},
        f"{where} against {store.url}",
        "name the folder of the store's teacher with --teacher",
    )


def check_pixels(store: AnswerStore, samples: Samples) -> None:
    """Refuse a store whose views this version renders to other pixels; raises InputError."""
    pixels = recorded_pixels(store)
    found = pixel_hash(store.plan, samples, pixels.views, pixels.samples)
    refuse_differences(
        {"pixels.sha256": (pixels.sha256, found)},
        store.url,
        "views are rendered differently; run cache-logits again",
    )


def check_first_batch(store: LogitStore, teacher: Normalised, samples: Samples, view: int) -> None:
    """Compare one batch of a view with the live teacher; raises InputError if the store differs."""
    count = min(batch_size(store), store.samples)
    chosen = np.arange(count)
    views = np.full(count, view)
    stored = stored_rows(store, views, chosen)
    query = Query.of(teacher, store.plan, samples, views, chosen)
    raw = live_logits(store, query)
    reference = live_reference(store.encoding, raw, query.labels(store), query.words(store))
    found = measure_discrepancy(store.encoding, stored, raw, reference, store.attributes.precision.arithmetic)
    if not found.within:
        raise InputError(
            f"{store.url}: view {view}, samples 0 to {count - 1}: the live teacher's logits differ by {found.dz:.3g}, "
            f"{found.excess:.3g} more than {store.attributes.encoding.name} explains, KL(tau=4) {found.kl_4:.1e}, "
            f"common top-1 {found.top1:.1%}; `prepkd verify {store.url}` looks closer"
        )


def check_answers(store: LogitStore, view: int, *, raw: bool) -> None:
    """Refuse a store of probabilities and, if the method needs `raw` logits, one of log-probabilities; raises InputError."""
    chosen = np.arange(min(ROWS, store.samples))
    stored = stored_rows(store, np.full(len(chosen), view), chosen)
    answers = store.encoding.decode(stored)
    logits = answers["logits"].float() + answers["row_max"].unsqueeze(-1)
    refuse_answers(logits, store.url, raw=raw, error=store.encoding.largest_error(stored))


def refuse_answers(logits: Tensor, where: object, *, raw: bool, error: Tensor | float = 0.0) -> None:
    """Refuse probabilities and, if `raw` logits are needed, log-probabilities (N, K); raises InputError."""
    check_logits(logits, where, error=error)
    if raw and are_log_probabilities(logits, error):
        raise InputError(
            f"{where}: every row's log-sum-exp is 0: log-probabilities, which have lost the logits' zero; this method "
            "compares raw logits: choose another method, or a teacher without log_softmax"
        )


def check_views(store: AnswerStore, shown: Set[int]) -> None:
    """Refuse a store that was fetched in part and lacks a view that training will show; raises InputError."""
    if absent := sorted(shown - set(store.present)):
        raise InputError(
            f"{store.url}: {len(absent)} of the {len(shown)} views that training shows were not fetched, view "
            f"{absent[0]} first; `prepkd fetch-views URL --views {views_text(absent)}` brings them"
        )


def check_card(card: Mapping[str, Any], dataset: Dataset, inputs: Mapping[str, Any], folder: Path) -> None:
    """Refuse a teacher of other classes, their order or channels, or one trained on another split; raises InputError."""
    wanted = {
        "num_classes": (card["num_classes"], dataset.classes),
        "in_channels": (card["in_channels"], dataset.samples.channels),
    }
    if card.get("training", {}).get("epochs"):  # given weights may come from anywhere
        wanted["inputs.split_fingerprint"] = card["inputs"]["split_fingerprint"], inputs["split_fingerprint"]
    remedy = f"run `{command_of(card, folder)}`"
    refuse_differences(wanted, folder, remedy)
    if wrong := order_problem(card.get("class_names"), dataset.class_names):
        raise InputError(f"{folder}: {wrong}; {remedy}")


def command_of(card: Mapping[str, Any], folder: Path) -> str:
    """The command that makes a teacher's folder, by its card."""
    return f"prepkd train-{'generation' if card.get('distilled_from') else 'teacher'} {folder.name}"


def check_given(card: Mapping[str, Any], weights: Path | None, folder: Path) -> None:
    """Refuse a teacher whose given file of weights has changed since; raises InputError."""
    made_from = card.get("weights_from", {}).get("sha256")
    if made_from and weights and weights_file(weights).is_file():  # the file need not be where the teacher is used
        remedy = f"{weights} has changed; run `{command_of(card, folder)}`"
        refuse_differences({"weights_from.sha256": (made_from, file_sha256(weights_file(weights)))}, folder, remedy)


def check_started_from(made_from: Mapping[str, Any], weights: Path | None, where: object, remedy: str) -> None:
    """Refuse a student whose file of weights has changed since; raises InputError."""
    if weights and weights_file(weights).is_file():
        remedy = f"{weights} has changed; {remedy}"
        refuse_differences(
            {"given_weights": (made_from.get("given_weights"), file_sha256(weights_file(weights)))}, where, remedy
        )


def check_taught_by(
    made_from: Mapping[str, Any] | None, teachers: Mapping[str, Path], where: object, remedy: str
) -> None:
    """Refuse students of a teacher that has been retrained since; `teachers` are folders by name. Raises InputError."""
    for name, folder in teachers.items():
        now = fingerprint(describe_teacher(load_card(folder) | {"name": name}))
        then = (made_from or {}).get(name, {}).get("teacher")
        refuse_differences({f"inputs.teacher.{name}": (then, now)}, where, remedy)

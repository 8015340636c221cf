"""What a store's logits are like: the teacher's errors, its confidence, and what KA would change."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.samples.labels import main_class
from prepkd.errors import InputError
from prepkd.losses import teacher_wrong
from prepkd.store import LogitStore
from prepkd.store.encodings import as_tensors

BINS = 20
ROWS = 8192  # at a time: float64 copies of a whole view would be eight times what f16 stores
Counts = dict[str, NDArray[Any]]


def confidence_and_entropy(logits: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """max p and -sum p log p (nats) of p = softmax(z / tau), both float64 (N,); logits (N, K), any shift."""
    log_p = torch.log_softmax(logits.double() / tau, dim=-1)
    p = log_p.exp()
    return p.amax(dim=-1), -(p * log_p).sum(dim=-1)


def edges(classes: int) -> dict[str, NDArray[np.float64]]:
    """The bins of both histograms, BINS + 1 edges each: confidence from 0 to 1, entropy from 0 to log K."""
    return {"confidence": np.linspace(0, 1, BINS + 1), "entropy": np.linspace(0, np.log(classes), BINS + 1)}


def view_counts(offsets: Tensor, labels: Tensor | None, taus: Sequence[float]) -> Counts:
    """One view's counts, from z - max(z) (N, K) and labels (N,), shares (N, K) or None: views are added up by adding these.

    For each tau `confidence@tau` and `entropy@tau`, histograms (BINS,), and their sums; with labels `wrong`, int (N,), `size`,
    (K,), and `taken`, (K, K): label (of a mixture the largest) by the class that a wrong answer names.
    """
    rows, classes = offsets.shape
    counts: Counts = {"rows": np.array(rows)}
    bins = edges(classes)
    for tau in taus:
        parts = [confidence_and_entropy(part, tau) for part in torch.split(offsets, ROWS)]
        for name, values in zip(bins, zip(*parts, strict=True), strict=True):
            found = torch.cat(values).numpy()
            # Rounding may leave a value just outside: 1 + 1e-16, log K + 1e-16, -0.0.
            inside = found.clip(bins[name][0], bins[name][-1])
            counts[f"{name}@{tau:g}"] = np.histogram(inside, bins[name])[0]
            counts[f"{name}@{tau:g} sum"] = np.array(found.sum())
    if labels is not None:
        wrong = teacher_wrong(offsets, labels)
        main = main_class(labels)
        pairs = (main * classes + offsets.argmax(dim=-1))[wrong]
        counts["wrong"] = wrong.long().numpy()
        counts["size"] = torch.bincount(main, minlength=classes).numpy()
        counts["taken"] = torch.bincount(pairs, minlength=classes**2).view(classes, classes).numpy()
    return counts


def count_views(
    store: LogitStore, views: Sequence[int], labels_of: Callable[[int], Tensor] | None, taus: Sequence[float]
) -> Counts:
    """The counts of some views of a store, added up; memory is that of one view. `labels_of` says what a view's labels are.

    Raises InputError for a damaged chunk, and where labels give a view another error than the store's own summary.
    """
    total: Counts = {}
    for view in views:
        offsets = store.encoding.decode(as_tensors(store.stored(view)))["logits"]
        counts = view_counts(offsets, labels_of and labels_of(view), taus)
        if labels_of:
            found, stated = counts["wrong"].mean(), store.summary["teacher_error_per_view"][view]
            if not np.isclose(found, stated, rtol=0, atol=1e-9):
                raise InputError(
                    f"{store.url}: the teacher's error on view {view} is {found:.6f} by the labels, {stated:.6f} in "
                    "summary.json; fetch the store again, or run cache-logits"
                )
        total = {name: total[name] + value for name, value in counts.items()} if total else counts
    return total


def softness(counts: Counts, classes: int, taus: Sequence[float]) -> dict[str, Any]:
    """Mean and histogram of confidence and entropy at each tau, as JSON."""
    return {
        name: {
            f"{tau:g}": {
                "mean": float(counts[f"{name}@{tau:g} sum"] / counts["rows"]),
                "histogram": counts[f"{name}@{tau:g}"].tolist(),
            }
            for tau in taus
        }
        | {"edges": bins.tolist()}
        for name, bins in edges(classes).items()
    }


def adjustment(counts: Counts, views: int) -> dict[str, Any]:
    """What KA would change in `views` views: rows, samples that are wrong in at least one view, in all, and in how many."""
    wrong = counts["wrong"]
    return {
        "rows": int(counts["rows"]),
        "rows_wrong": int(wrong.sum()),
        "samples": len(wrong),
        "samples_wrong_in_a_view": int((wrong > 0).sum()),
        "samples_wrong_in_all_views": int((wrong == views).sum()),
        "samples_by_wrong_views": np.bincount(wrong.astype(np.int64), minlength=views + 1).tolist(),
    }


def class_errors(counts: Counts, names: Sequence[str]) -> list[dict[str, Any]]:
    """The error of each class, the worst first, and the class that its wrong answers name most often."""
    size = counts["size"]
    wrong = counts["taken"].sum(axis=1)
    error = wrong / np.maximum(size, 1)
    return [
        {
            "class": names[k],
            "rows": int(size[k]),
            "error": float(error[k]),
            "taken_for": names[int(counts["taken"][k].argmax())] if wrong[k] else None,
        }
        for k in np.argsort(-error, kind="stable")
        if size[k]
    ]


def view_errors(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher's error per view, and its spread, from the summary that every store carries; all views."""
    errors = summary["teacher_error_per_view"]
    return {
        "per_view": errors,
        "mean": float(np.mean(errors)),
        "min": float(np.min(errors)),
        "median": float(np.median(errors)),
        "max": float(np.max(errors)),
    }

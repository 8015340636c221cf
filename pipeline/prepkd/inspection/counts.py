"""Counts over some views of a store, one view in memory at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from prepkd.errors import InputError
from prepkd.inspection.softness import Binned, bin_softness
from prepkd.inspection.teacher_errors import ErrorCounts, count_errors
from prepkd.store import LogitStore
from prepkd.store.encodings import as_tensors


@dataclass(frozen=True)
class Counts:
    """Counts over `rows` rows: confidence and entropy by temperature, and the teacher's errors (None without labels)."""

    rows: int
    confidence: dict[float, Binned]
    entropy: dict[float, Binned]
    errors: ErrorCounts | None

    def __add__(self, other: "Counts") -> "Counts":
        """Add two counts, of the same temperatures, bins and samples."""
        return Counts(
            self.rows + other.rows,
            {tau: one + other.confidence[tau] for tau, one in self.confidence.items()},
            {tau: one + other.entropy[tau] for tau, one in self.entropy.items()},
            self.errors + other.errors if self.errors and other.errors else None,
        )


def count_view(offsets: Tensor, labels: Tensor | None, taus: Sequence[float]) -> Counts:
    """Count one view from z - max(z) (N, K) and labels int64 (N,), shares (N, K) or None."""
    binned = {tau: bin_softness(offsets, tau) for tau in taus}
    return Counts(
        rows=len(offsets),
        confidence={tau: confidence for tau, (confidence, _) in binned.items()},
        entropy={tau: entropy for tau, (_, entropy) in binned.items()},
        errors=None if labels is None else count_errors(offsets, labels),
    )


def count_views(
    store: LogitStore, views: Sequence[int], labels_of: Callable[[int], Tensor] | None, taus: Sequence[float]
) -> Counts:
    """Add up the counts of some views (at least one) of a store; `labels_of` returns a view's labels.

    Raises InputError for a damaged chunk, and if a view's error by the labels differs from the store's summary.
    """
    total = None
    for view in views:
        offsets = store.encoding.decode(as_tensors(store.stored(view)))["logits"]
        counts = count_view(offsets, labels_of(view) if labels_of else None, taus)
        if counts.errors:
            _check_error(store, view, float(counts.errors.wrong.mean()))
        total = total + counts if total else counts
    assert total is not None, "no view to count"
    return total


def _check_error(store: LogitStore, view: int, found: float) -> None:
    """Refuse a view whose error differs from the store's summary; raises InputError."""
    stated = store.summary["teacher_error_per_view"][view]
    if not np.isclose(found, stated, rtol=0, atol=1e-9):
        raise InputError(
            f"{store.url}: the teacher's error on view {view} is {found:.6f} by the labels, {stated:.6f} in "
            "summary.json; fetch the store again, or run cache-logits"
        )

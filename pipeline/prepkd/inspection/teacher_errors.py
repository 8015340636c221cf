"""The teacher's errors per view, per class and per sample, from counts; the last are the rows that KA changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.samples.labels import main_class
from prepkd.losses import teacher_wrong


@dataclass(frozen=True)
class ErrorCounts:
    """Counts of wrong answers; counts of several views can be added.

    `wrong`: the number of views in which the teacher is wrong on a sample, int (N,); `size`: rows per class, int (K,);
    `confusion`: wrong rows by class and by answered class, int (K, K). A mixture counts under its largest class.
    """

    wrong: NDArray[np.int64]
    size: NDArray[np.int64]
    confusion: NDArray[np.int64]

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        """Add two counts."""
        return ErrorCounts(self.wrong + other.wrong, self.size + other.size, self.confusion + other.confusion)


@dataclass(frozen=True)
class ViewErrors:
    """The teacher's error on each view, and statistics over all views."""

    per_view: list[float]
    mean: float
    min: float
    median: float
    max: float


@dataclass(frozen=True)
class ClassError:
    """A class's rows, the share that is answered wrongly, and the most frequent wrong answer (None if there is none)."""

    name: str
    rows: int
    error: float
    taken_for: str | None

    def as_json(self) -> dict[str, Any]:
        """The fields, with the name as `class`."""
        return {"class": self.name, "rows": self.rows, "error": self.error, "taken_for": self.taken_for}


@dataclass(frozen=True)
class AdjustedRows:
    """KA's share: wrong rows, and samples by the number of views in which the teacher is wrong."""

    rows: int
    rows_wrong: int
    samples: int
    samples_wrong_in_a_view: int
    samples_wrong_in_all_views: int
    samples_by_wrong_views: list[int]


def count_errors(offsets: Tensor, labels: Tensor) -> ErrorCounts:
    """Count one view's errors from z - max(z) (N, K) and labels int64 (N,) or shares (N, K)."""
    classes = offsets.shape[-1]
    wrong, main = teacher_wrong(offsets, labels), main_class(labels)
    pairs = (main * classes + offsets.argmax(dim=-1))[wrong]
    return ErrorCounts(
        wrong.long().numpy(),
        torch.bincount(main, minlength=classes).numpy(),
        torch.bincount(pairs, minlength=classes**2).view(classes, classes).numpy(),
    )


def adjustment(counts: ErrorCounts, views: int) -> AdjustedRows:
    """KA's share of `views` views, from their counts."""
    wrong = counts.wrong
    return AdjustedRows(
        rows=views * len(wrong),
        rows_wrong=int(wrong.sum()),
        samples=len(wrong),
        samples_wrong_in_a_view=int((wrong > 0).sum()),
        samples_wrong_in_all_views=int((wrong == views).sum()),
        samples_by_wrong_views=np.bincount(wrong.astype(np.int64), minlength=views + 1).tolist(),
    )


def class_errors(counts: ErrorCounts, names: Sequence[str]) -> list[ClassError]:
    """The error of each class that has rows, the largest first."""
    wrong = counts.confusion.sum(axis=1)
    error = wrong / np.maximum(counts.size, 1)
    return [
        ClassError(
            name=names[k],
            rows=int(counts.size[k]),
            error=float(error[k]),
            taken_for=names[int(counts.confusion[k].argmax())] if wrong[k] else None,
        )
        for k in np.argsort(-error, kind="stable")
        if counts.size[k]
    ]


def view_errors(summary: Mapping[str, Any]) -> ViewErrors:
    """The teacher's error on all views, from the store's summary."""
    errors = summary["teacher_error_per_view"]
    return ViewErrors(
        per_view=errors,
        mean=float(np.mean(errors)),
        min=float(np.min(errors)),
        median=float(np.median(errors)),
        max=float(np.max(errors)),
    )

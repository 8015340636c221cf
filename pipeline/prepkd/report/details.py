"""Figures of single seeds, classes and confusions, and the headline figures that compare experiments."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from prepkd.report.metrics import by_class

LISTED = 100  # confusions; results/plots/confusion.csv has all
OF_TEACHER = ("top1", "training_view_error")
DIGITS = 4  # of a headline figure: a hundredth of a percent


def headline(details: Mapping[str, Any]) -> dict[str, Any]:
    """The rounded figures that compare experiments: n, top-1 as mean and std, genetic errors, the teacher's top-1.

    `dvc exp show` has a column per differing figure, so they are few, with short names and few digits.
    """
    figures: dict[str, Any] = {"n": details["n"], "top1": _rounded(details["top1"])}
    if "genetic_errors" in details:
        figures["genetic"] = round(details["genetic_errors"]["mean"], DIGITS)
    teacher = {name: value for name, value in details["teacher"].items() if name in OF_TEACHER}
    return figures | {"teacher": _rounded(teacher)}


def _rounded(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: value if value is None else round(value, DIGITS) for name, value in figures.items()}


def class_rows(names: Sequence[str], counts: Tensor, teacher: Tensor | None) -> list[dict[str, Any]]:
    """One row per class, from the students' and the teacher's counts (K, K): the accuracy on its samples.

    A class without test samples has None.
    """
    ours, theirs = by_class(counts), None if teacher is None else by_class(teacher)
    rows = []
    for number, name in enumerate(names):
        row: dict[str, Any] = {"class": name, "top1": _number(ours[number])}
        rows.append(row if theirs is None else row | {"teacher_top1": _number(theirs[number])})
    return rows


def confusions(names: Sequence[str], counts: Tensor) -> list[dict[str, Any]]:
    """The most frequent confusions of counts (K, K) over all seeds: actual and predicted class, share of the actual class."""
    wrong = counts.clone().fill_diagonal_(0)
    totals = counts.sum(dim=1)
    order = wrong.flatten().sort(descending=True, stable=True).indices[:LISTED].tolist()
    found = ((*divmod(place, len(names)), int(wrong.flatten()[place])) for place in order)
    return [
        {"actual": names[i], "predicted": names[j], "samples": samples, "share": samples / int(totals[i])}
        for i, j, samples in found
        if samples
    ]


def _number(value: Tensor) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number

"""Calibration of student and teacher: reliability diagram and confidence histogram."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from prepkd.html_report.charts.calibration import confidence_chart, reliability_chart
from prepkd.html_report.parts import Figure, PageSection, Table, columns, number, text
from prepkd.html_report.results import Results
from prepkd.report.metrics import measure

BINS = 15  # as the ECE has


def calibration(results: Results) -> PageSection:
    """The reliability diagram of the shown students, all seeds pooled, and of the teacher; raises InputError."""
    shown, labels = results.selected_run, results.labels
    teacher = results.teacher_logits_or_none
    seeds = list(shown.logits.values())
    answers = {"student": (torch.cat(seeds), labels.repeat(len(seeds)))}
    errors = {"student": sum(measure(one, labels)["ece"] for one in seeds) / len(seeds)}
    if teacher is not None:
        answers["teacher"] = teacher, labels
        errors["teacher"] = measure(teacher, labels)["ece"]
    rows = [{"model": model, **row} for model, pair in answers.items() for row in reliability(*pair)]
    said = ", ".join(f"{model} {100 * ece:.2f} %" for model, ece in errors.items())
    over = {
        model: sum(r["share"] * (r["confidence"] - r["accuracy"]) for r in rows if r["model"] == model)
        for model in answers
    }
    lead = f"Expected calibration error: {said}. " + " ".join(
        f"The {model} is {'over' if gap > 0 else 'under'}confident by {100 * abs(gap):.1f} points on average."
        for model, gap in over.items()
    )
    heads = ["confidence from", "to", "samples, %", "mean confidence, %", "accuracy, %"]
    cells = [
        [
            text(row["model"]),
            *(number(100 * row[name], "{:.0f}") for name in ("low", "high")),
            *(number(100 * row[name]) for name in ("share", "confidence", "accuracy")),
        ]
        for row in rows
    ]
    table = Table("Confidence and accuracy by bin", columns("model", *heads, numeric=heads), cells)
    caption = (
        f"{shown.described}; {BINS} bins of equal width. On the line confidence is accuracy; below it the model is "
        "overconfident. The larger the dot, the more samples."
    )
    models = list(answers)
    figures = [
        Figure("reliability", "Reliability diagram", caption, reliability_chart(rows, models), table),
        Figure(
            "confidence",
            "Confidence",
            "Share of the test samples by confidence.",
            confidence_chart(rows, models),
            table,
        ),
    ]
    return PageSection("calibration", "Calibration", lead, figures)


def reliability(logits: Tensor, labels: Tensor) -> list[Mapping[str, Any]]:
    """The non-empty bins with edges, share of the samples, mean confidence and accuracy, from logits (N, K) and labels (N,).

    Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599.
    """
    confidence, predicted = logits.double().softmax(dim=-1).max(dim=-1)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # bin m holds ((m - 1) / M, m / M]
    right = (predicted == labels).double()
    rows: list[Mapping[str, Any]] = []
    for k in range(BINS):
        here = bins == k
        if here.any():
            rows.append(
                {
                    "low": k / BINS,
                    "high": (k + 1) / BINS,
                    "share": here.double().mean().item(),
                    "confidence": confidence[here].mean().item(),
                    "accuracy": right[here].mean().item(),
                }
            )
    return rows

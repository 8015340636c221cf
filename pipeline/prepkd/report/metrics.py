"""Metrics of test logits, and their summary over seeds."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error


def measure(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Top-1, top-5, NLL (nats) and ECE (15 bins) of logits (N, K) for labels int64 (N,).

    Source of ECE: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599.
    """
    classes = logits.shape[-1]
    # torchmetrics would put a confidence of exactly 1 into a 16th bin.
    probabilities = logits.softmax(dim=-1).clamp(max=1 - 2**-24)

    def accuracy(k: int) -> float:
        top = multiclass_accuracy(logits, labels, classes, average="micro", top_k=min(k, classes))
        return float(top)

    return {
        "top1": accuracy(1),
        "top5": accuracy(5),
        "nll": float(F.cross_entropy(logits, labels)),
        "ece": float(multiclass_calibration_error(probabilities, labels, classes, n_bins=15)),
    }


def against_teacher(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, float]:
    """The student's agreement with the teacher and its genetic errors, from logits (N, K) and labels (N,).

    `genetic_errors` is the share of samples on which both give the same wrong class (Wen et al., arXiv 1911.07471).
    """
    ours, theirs = student.argmax(dim=-1), teacher.argmax(dim=-1)
    same = ours == theirs
    return {
        "agreement": same.float().mean().item(),
        "genetic_errors": (same & (ours != labels)).float().mean().item(),
    }


def over_seeds(metrics: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Mean and sample standard deviation of each metric over the seeds, and their number n; std is None for n = 1."""
    summary: dict[str, Any] = {"n": len(metrics)}
    for name in metrics[0]:
        values = [row[name] for row in metrics]
        summary[name] = {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else None}
    return summary


def confusion_counts(logits: Tensor, labels: Tensor) -> Tensor:
    """Count samples by actual and predicted class, int64 (K, K), from logits (N, K) and labels int64 (N,)."""
    classes = logits.shape[-1]
    return torch.bincount(labels * classes + logits.argmax(dim=-1), minlength=classes**2).reshape(classes, classes)


def by_class(counts: Tensor) -> Tensor:
    """The accuracy on each class, float64 (K,), from counts (K, K); NaN for a class without samples."""
    return counts.diagonal().double() / counts.sum(dim=1)

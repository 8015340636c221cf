"""Softness of a teacher's answers: histograms of confidence and entropy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 20
ROWS = 8192  # rows at a time: float64 copies of a whole view would take eight times the memory of f16


@dataclass(frozen=True)
class Binned:
    """The histogram of some values, int (BINS,), and their sum."""

    histogram: NDArray[np.int64]
    total: float

    def __add__(self, other: "Binned") -> "Binned":
        """Add two histograms and their sums; the bins must be equal."""
        return Binned(self.histogram + other.histogram, self.total + other.total)


@dataclass(frozen=True)
class Histogram:
    """Mean and histogram of some values."""

    mean: float
    histogram: list[int]


@dataclass(frozen=True)
class Histograms:
    """One histogram per temperature, keyed by its text (`1`, `0.5`), over common bin edges."""

    by_tau: dict[str, Histogram]
    edges: list[float]

    def as_json(self) -> dict[str, Any]:
        """The histograms by temperature, and `edges` beside them."""
        return {tau: {"mean": one.mean, "histogram": one.histogram} for tau, one in self.by_tau.items()} | {
            "edges": self.edges
        }


def confidence_and_entropy(logits: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """max p and -sum p log p (nats) of p = softmax(z / tau), both float64 (N,); logits (N, K), up to a shift per row."""
    log_p = torch.log_softmax(logits.double() / tau, dim=-1)
    p = log_p.exp()
    return p.amax(dim=-1), -(p * log_p).sum(dim=-1)


def confidence_edges() -> NDArray[np.float64]:
    """The bin edges of a confidence, float64 (BINS + 1,), from 0 to 1."""
    return np.linspace(0, 1, BINS + 1)


def entropy_edges(classes: int) -> NDArray[np.float64]:
    """The bin edges of an entropy in nats, float64 (BINS + 1,), from 0 to log K."""
    return np.linspace(0, np.log(classes), BINS + 1)


def bin_softness(offsets: Tensor, tau: float) -> tuple[Binned, Binned]:
    """Confidence and entropy at `tau` of logits (N, K), binned."""
    parts = [confidence_and_entropy(part, tau) for part in torch.split(offsets, ROWS)]
    confidence, entropy = (torch.cat(values).numpy() for values in zip(*parts, strict=True))
    return _binned(confidence, confidence_edges()), _binned(entropy, entropy_edges(offsets.shape[-1]))


def _binned(values: NDArray[np.float64], edges: NDArray[np.float64]) -> Binned:
    # Rounding may leave a value just outside: 1 + 1e-16, log K + 1e-16, -0.0.
    inside = values.clip(edges[0], edges[-1])
    return Binned(np.histogram(inside, edges)[0], float(values.sum()))


def summarise(binned: dict[float, Binned], rows: int, edges: NDArray[np.float64]) -> Histograms:
    """Mean and histogram over `rows` rows at each temperature."""
    by_tau = {f"{tau:g}": Histogram(one.total / rows, one.histogram.tolist()) for tau, one in binned.items()}
    return Histograms(by_tau, edges.tolist())

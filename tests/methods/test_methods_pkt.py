"""Probabilistic Knowledge Transfer: against loops, and its invariance to each sample's scale."""

import math

import pytest
import torch
from prepkd.losses import pkt
from torch import Tensor


def vectors(seed: int, samples: int = 4, size: int = 3) -> Tensor:
    return torch.randn(samples, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def neighbours(features: Tensor) -> list[list[float]]:
    rows = features.tolist()
    found = [
        [
            (sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other) + 1) / 2
            for other in rows
        ]
        for one in rows
    ]
    return [[value / sum(row) for value in row] for row in found]


def test_it_is_the_loops() -> None:
    student, teacher = vectors(0), vectors(1, size=6)
    rows = list(zip(neighbours(student), neighbours(teacher), strict=True))
    shares = [
        sum(t * math.log((t + 1e-7) / (s + 1e-7)) for s, t in zip(own, theirs, strict=True)) / 4 for own, theirs in rows
    ]
    assert pkt(student, teacher).tolist() == pytest.approx(shares, rel=1e-9)
    entries = [(s, t) for own, theirs in rows for s, t in zip(own, theirs, strict=True)]
    mean = sum(t * math.log((t + 1e-7) / (s + 1e-7)) for s, t in entries) / len(entries)
    assert float(pkt(student, teacher).mean()) == pytest.approx(mean, rel=1e-9), "the published loss of the batch"


def test_each_samples_scale_does_not_matter() -> None:
    student, teacher = vectors(0), vectors(1)
    lengths = torch.tensor([[0.1], [1.0], [7.0], [1e4]])
    torch.testing.assert_close(pkt(lengths * student, teacher / lengths), pkt(student, teacher))


def test_opposite_samples_do_not_make_a_negative_probability() -> None:
    """In float32 a cosine can round to less than -1."""
    row = torch.rand(1, 300, generator=torch.Generator().manual_seed(0))
    student = torch.cat([row, -row, -3 * row, 0.1 * row])
    found = pkt(student, vectors(1))
    assert found.isfinite().all() and pkt(student, student).abs().max() < 1e-7

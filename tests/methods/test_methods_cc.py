"""Correlation Congruence, the kernel form: against an explicit Taylor series, and that series against the Gaussian."""

import math

import pytest
import torch
from prepkd.errors import InputError
from prepkd.losses import correlation_congruence
from torch import Tensor


def vectors(seed: int, samples: int = 4, size: int = 3) -> Tensor:
    return torch.randn(samples, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(row: list[float]) -> list[float]:
    return [value / math.hypot(*row) for value in row]


def kernel(features: Tensor, gamma: float, order: int) -> list[list[float]]:
    rows = [unit(row) for row in features.tolist()]
    cosines = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in rows] for one in rows]
    powers = range(order + 1)
    return [
        [sum(math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * c**p for p in powers) for c in row]
        for row in cosines
    ]


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 1), (0.4, 2), (1.5, 5)])
def test_it_is_the_loops(gamma: float, order: int) -> None:
    student, teacher = vectors(0), vectors(1, size=6)
    rows = zip(kernel(student, gamma, order), kernel(teacher, gamma, order), strict=True)
    shares = [sum((s - t) ** 2 for s, t in zip(own, theirs, strict=True)) / 4 for own, theirs in rows]
    found = correlation_congruence(student, teacher, gamma=gamma, order=order)
    assert found.tolist() == pytest.approx(shares, rel=1e-9)


def test_a_high_order_is_the_gaussian_kernel() -> None:
    student, teacher = vectors(0), vectors(1)
    own, theirs = (
        torch.exp(-0.4 * torch.cdist(*2 * (torch.nn.functional.normalize(rows),)).square())
        for rows in (student, teacher)
    )
    expected = (own - theirs).square().mean(1)
    torch.testing.assert_close(correlation_congruence(student, teacher, gamma=0.4, order=20), expected)
    assert not torch.allclose(correlation_congruence(student, teacher, gamma=0.4, order=1), expected, rtol=0.01)


def test_each_samples_scale_does_not_matter() -> None:
    lengths = torch.tensor([[0.1], [1.0], [7.0], [1e4]])
    settings = {"gamma": 0.4, "order": 2}
    found = correlation_congruence(lengths * vectors(0), vectors(1) / lengths, **settings)
    torch.testing.assert_close(found, correlation_congruence(vectors(0), vectors(1), **settings))


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"order": 0}, {"order": 1.5}, {"gamma": float("inf")}])
def test_settings_out_of_their_domain_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"correlation_congruence.*{next(iter(wrong))}"):
        correlation_congruence(vectors(0), vectors(1), **{"gamma": 0.4, "order": 2} | wrong)

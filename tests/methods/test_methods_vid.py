"""Variational Information Distillation: against loops, its best variance, and where the published code overflows."""

import math

import pytest
import torch
from prepkd.losses import variational_information
from prepkd.methods.term import State
from prepkd.methods.variational_information import Predictor, VariationalInformation
from torch import Size, Tensor

LABELS = torch.zeros(2, dtype=torch.int64)


def maps(seed: int, channels: int = 3, size: int = 4) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


VARIANCE = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)


def test_it_is_the_loops() -> None:
    mean, teacher = maps(0), maps(1)
    expected = []
    for sample, target in zip(mean.tolist(), teacher.tolist(), strict=True):
        total = 0.0
        for m, t, variance in zip(sample, target, VARIANCE.tolist(), strict=True):
            pairs = [(a, b) for rows in zip(m, t, strict=True) for a, b in zip(*rows, strict=True)]
            total += sum(0.5 * ((a - b) ** 2 / variance + math.log(variance)) for a, b in pairs)
        expected.append(total / (3 * 4 * 4))
    assert variational_information(mean, VARIANCE, teacher).tolist() == pytest.approx(expected, rel=1e-9)


def test_variance_one_is_half_the_squared_error_and_the_loss_may_be_negative() -> None:
    mean, teacher = maps(0), maps(1)
    half = (mean - teacher).square().mean((1, 2, 3)) / 2
    torch.testing.assert_close(variational_information(mean, torch.ones(3), teacher), half)
    assert (variational_information(mean, torch.full((3,), 0.1), mean) < 0).all()


def test_the_best_variance_is_the_channels_mean_squared_error() -> None:
    mean, teacher = maps(0), maps(1)
    best = (mean - teacher).square().mean((0, 2, 3)).requires_grad_()
    variational_information(mean, best, teacher).mean().backward()  # type: ignore[no-untyped-call]
    assert best.grad is not None and float(best.grad.abs().max()) < 1e-12
    least = variational_information(mean, best.detach(), teacher).mean()
    for factor in (0.9, 1.1):
        assert variational_information(mean, factor * best.detach(), teacher).mean() > least


def test_the_predictor_starts_as_published_and_every_part_is_trained() -> None:
    """The initial variance is 5, so the loss starts with ln 5 / 2. One public form leaves the variances out of the optimiser."""
    predictor = Predictor(2, 3)
    mean, variance = predictor(maps(0, 2).float())
    torch.testing.assert_close(variance, torch.full((3,), 5.0))
    found = variational_information(mean, variance, mean)
    torch.testing.assert_close(found, torch.full((2,), math.log(5) / 2))
    assert [name for name, _ in predictor.named_parameters()] == ["scale", *(f"mean.{i}.weight" for i in (0, 2, 4))]
    adapters = VariationalInformation().adapter(*2 * ({f"stage{i}": Size((64 << i, 8, 8)) for i in range(1, 4)},), 0)
    widths = (128, 256, 512)
    assert sum(one.numel() for one in adapters.parameters()) == sum(3 * width**2 + width for width in widths)


@pytest.mark.parametrize("scale", [-200.0, 100.0, 1e4])
def test_a_scale_far_out_keeps_a_finite_variance_and_gradient(scale: float) -> None:
    """ln(1 + e^a) computed naively overflows from a = 89 in float32."""
    predictor = Predictor(2, 3)
    with torch.no_grad():
        predictor.scale.fill_(scale)
    mean, variance = predictor(maps(0, 2).float())
    found = variational_information(mean, variance, maps(1).float())
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert found.isfinite().all() and (variance > 0).all()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in predictor.parameters())


def test_the_term_sums_stages_and_averages_the_larger_map() -> None:
    term = VariationalInformation(stages=["a", "b"])
    student, teacher = (
        {"a": maps(0, 2).float(), "b": maps(1, 2).float()},
        {"a": maps(2).float(), "b": maps(3, 5, 8).float()},
    )
    shapes = [{name: values.shape[1:] for name, values in features.items()} for features in (student, teacher)]
    adapter = term.adapter(shapes[0], shapes[1], 70)
    own, theirs = term.teacher_tensors(student, shapes[1]), term.teacher_tensors(teacher, shapes[0])
    assert {key: tuple(value.shape[1:]) for key, value in theirs.items()} == {"a": (3, 4, 4), "vid/b": (5, 4, 4)}
    found = term.loss(own, theirs, LABELS, State(torch.zeros(()), adapter))
    pooled = torch.nn.functional.avg_pool2d(teacher["b"], 2)
    first, second = (
        variational_information(*predictor(student[name]), target)
        for predictor, name, target in zip(adapter, "ab", (teacher["a"], pooled), strict=True)
    )
    torch.testing.assert_close(found, first + second)

"""Symmetries, temperatures and gradients of the losses' functions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_examples import example
from prepkd.losses import (
    cwsm_weights,
    dynamic_temperature,
    flsw_weights,
    kl_divergence,
    label_smooth,
    probability_shift,
)
from torch import Tensor
from torch.nn import functional as F

# Symmetries


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Draw logits without ties in a row, and labels; K 2 to 8, 1 to 5 samples."""
    classes, samples = draw(st.integers(2, 8)), draw(st.integers(1, 5))
    row = st.lists(st.integers(-2000, 2000), min_size=classes, max_size=classes, unique=True)
    rows = st.lists(row, min_size=samples, max_size=samples)
    student, teacher = (torch.tensor(draw(rows), dtype=torch.float64) / 100 for _ in range(2))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=samples, max_size=samples))
    return student, teacher, torch.tensor(labels)


quick = settings(deadline=None, max_examples=60, derandomize=True)


@quick
@given(batches(), st.randoms(use_true_random=False), st.sampled_from([1.0, 4.0]))
def test_the_order_of_classes_does_not_matter(
    batch: tuple[Tensor, Tensor, Tensor], shuffle: object, tau: float
) -> None:
    student, teacher, labels = batch
    order = list(range(student.shape[1]))
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    v, t, y = student[:, order], teacher[:, order], torch.tensor([order.index(int(label)) for label in labels])

    def same(ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)

    same(kl_divergence(v, target_logits=t, tau=tau), kl_divergence(student, target_logits=teacher, tau=tau))
    same(probability_shift(t, y), probability_shift(teacher, labels)[:, order])
    same(label_smooth(t, y, tau=tau, eps=0.1), label_smooth(teacher, labels, tau=tau, eps=0.1)[:, order])
    same(flsw_weights(v, t, gamma=1.0), flsw_weights(student, teacher, gamma=1.0))
    same(cwsm_weights(v), cwsm_weights(student))


@quick
@given(batches(), st.floats(-50, 50), st.floats(-50, 50), st.sampled_from([1.0, 4.0]))
def test_a_shift_of_logits_does_not_matter(
    batch: tuple[Tensor, Tensor, Tensor], c: float, d: float, tau: float
) -> None:
    """KL, KA and CWSM ignore an offset per row. FLSW does not: see the next test."""
    student, teacher, labels = batch
    v, t = student + c, teacher + d
    close = {"rtol": 1e-9, "atol": 1e-9}
    expected = kl_divergence(student, target_logits=teacher, tau=tau)
    torch.testing.assert_close(kl_divergence(v, target_logits=t, tau=tau), expected, **close)
    torch.testing.assert_close(probability_shift(t, labels), probability_shift(teacher, labels) + d, **close)
    smooth = label_smooth(teacher, labels, tau=tau, eps=0.1)
    torch.testing.assert_close(label_smooth(t, labels, tau=tau, eps=0.1), smooth, **close)
    torch.testing.assert_close(cwsm_weights(v), cwsm_weights(student), **close)


def test_flsw_depends_on_the_shift_of_logits() -> None:
    """A cosine has an origin, so FLSW needs raw logits: the store's offsets (z - max) give different weights."""
    student, teacher, _ = example(6, 7)
    raw = flsw_weights(student, teacher, gamma=1.0)
    offsets = flsw_weights(student, teacher - teacher.amax(-1, keepdim=True), gamma=1.0)
    assert (raw - offsets).abs().max() > 0.1
    # A scale, unlike a shift, changes nothing.
    torch.testing.assert_close(flsw_weights(3 * student, teacher / 5, gamma=1.0), raw)


@quick
@given(batches(), st.sampled_from([1.0, 4.0, 20.0]))
def test_a_divergence_is_never_negative(batch: tuple[Tensor, Tensor, Tensor], tau: float) -> None:
    student, teacher, labels = batch
    shifted = probability_shift(teacher, labels)
    smooth = label_smooth(teacher, labels, tau=tau, eps=0.1)
    for target in ({"target_logits": teacher}, {"target_logits": shifted}, {"target_probs": smooth}):
        assert (kl_divergence(student, **target, tau=tau) > -1e-9).all()


@quick
@given(batches())
def test_probability_shift_keeps_each_rows_values_and_smoothing_sums_to_one(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    _, teacher, labels = batch
    shifted = probability_shift(teacher, labels)
    assert torch.equal(shifted.sort(-1).values, teacher.sort(-1).values)
    assert torch.equal(shifted.argmax(-1), labels)
    smooth = label_smooth(teacher, labels, tau=4.0, eps=0.1)
    torch.testing.assert_close(smooth.sum(-1), torch.ones(len(labels), dtype=torch.float64))


@quick
@given(batches(), st.sampled_from([0.5, 1.0, 4.0]))
def test_swapping_logits_is_swapping_probabilities(batch: tuple[Tensor, Tensor, Tensor], tau: float) -> None:
    _, teacher, labels = batch
    torch.testing.assert_close(
        torch.softmax(probability_shift(teacher, labels) / tau, -1),
        probability_shift(torch.softmax(teacher / tau, -1), labels),
        rtol=1e-9,
        atol=1e-12,
    )


# Temperatures


def test_the_clamp_bites_at_both_ends() -> None:
    weights = torch.tensor([0.0, 1.0, 2.0])
    tau = dynamic_temperature(weights, tau_0=4.0, beta=100.0, tau_min=1.5, tau_max=9.0)
    assert tau.tolist() == [9.0, 4.0, 1.5]


def test_a_hard_sample_gets_the_lower_temperature() -> None:
    """Uncertainty sharpens: the paper's sign."""
    tau = dynamic_temperature(torch.tensor([0.1, 0.9]), tau_0=4.0, beta=1.0, tau_min=1.0, tau_max=40.0)
    torch.testing.assert_close(tau, torch.tensor([4.4, 3.6]))


@pytest.mark.parametrize("samples", [1, 2, 7, 128])
@pytest.mark.parametrize("beta", [0.2, 2.0])
def test_equal_samples_get_tau_0(samples: int, beta: float) -> None:
    student, teacher, _ = (rows.repeat(samples, 1) for rows in map(Tensor.float, example(1, 7)))
    for weights in (flsw_weights(student, teacher, gamma=1.0), cwsm_weights(student)):
        tau = dynamic_temperature(weights, tau_0=4.0, beta=beta, tau_min=1.0, tau_max=40.0)
        torch.testing.assert_close(tau, torch.full((samples,), 4.0), rtol=0, atol=1e-5)


def test_without_the_clamp_the_mean_temperature_is_tau_0() -> None:
    tau = dynamic_temperature(torch.tensor([0.3, 0.5, 1.1]), tau_0=4.0, beta=2.0, tau_min=1.0, tau_max=40.0)
    assert tau.mean().item() == pytest.approx(4.0)


def test_flsw_is_zero_where_rounding_makes_one_minus_cosine_negative() -> None:
    """1 - cos(v, v) is often -6e-8 in float32; a negative number to the power 0.5 would be NaN."""
    student = 7 * torch.randn(500, 10, generator=torch.Generator().manual_seed(0))
    assert (F.cosine_similarity(student, student) > 1).any(), "the case this test is about"
    weights = flsw_weights(student, student, gamma=0.5)
    assert torch.isfinite(weights).all() and (weights >= 0).all() and weights.max() < 1e-2


def test_cwsm_is_between_one_and_the_number_of_classes() -> None:
    unsure, sure = torch.zeros(1, 100), 100 * F.one_hot(torch.tensor([3]), 100).float()
    torch.testing.assert_close(cwsm_weights(unsure), torch.tensor([100.0]))
    torch.testing.assert_close(cwsm_weights(sure), torch.tensor([1.0]))


# Gradients


def test_gradients_are_those_of_finite_differences() -> None:
    student, teacher, labels = example(4, 5)
    student.requires_grad_()
    taus = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    targets = (
        {"target_logits": teacher},
        {"target_logits": probability_shift(teacher, labels)},
        {"target_probs": label_smooth(teacher, labels, tau=taus, eps=0.1)},
    )
    for target in targets:
        for tau in (4.0, taus):
            assert torch.autograd.gradcheck(lambda v, to=target, at=tau: kl_divergence(v, **to, tau=at), student)


def test_weights_and_temperatures_are_detached() -> None:
    student, teacher, _ = example(4, 5)
    student.requires_grad_()
    teacher.requires_grad_()
    for weights in (flsw_weights(student, teacher, gamma=1.0), cwsm_weights(student), student.sum(-1)):
        tau = dynamic_temperature(weights, tau_0=4.0, beta=1.0, tau_min=1.0, tau_max=40.0)
        assert not tau.requires_grad
    assert not flsw_weights(student, teacher, gamma=1.0).requires_grad
    assert not cwsm_weights(student).requires_grad

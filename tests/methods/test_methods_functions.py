"""Each loss function by itself: against loops, at its fixed points, under its symmetries, in every precision."""

import doctest
import importlib
import inspect
from collections.abc import Callable

import naive_losses as naive
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prepkd import losses
from prepkd.errors import InputError
from prepkd.losses import (
    cwsm_weights,
    dynamic_temperature,
    flsw_weights,
    kl_divergence,
    label_smooth,
    probability_shift,
    teacher_wrong,
)
from torch import Tensor
from torch.nn import functional as F

SHAPES = [(1, 2), (1, 7), (5, 2), (6, 7), (3, 1000)]
HALVES = [torch.bfloat16, torch.float16]


def example(samples: int, classes: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher logits in float64, and labels; the teacher is right for every other sample."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, samples, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (samples,), generator=generator)
    labels[1::2] = teacher.argmax(-1)[1::2]
    labels[::2] = torch.where(labels == teacher.argmax(-1), (labels + 1) % classes, labels)[::2]
    return student, teacher, labels


def close(values: Tensor, expected: object, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(
        values, torch.tensor(expected, dtype=torch.float64), rtol=tolerance, atol=tolerance, check_dtype=True
    )


# Against loops


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0, 40.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_kl_divergence_is_the_loop(shape: tuple[int, int], tau: float) -> None:
    student, teacher, _ = example(*shape)
    expected = [
        naive.kl(v, naive.softmax(t, tau), tau) for v, t in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    close(kl_divergence(student, target_logits=teacher, tau=tau), expected, 1e-11)
    close(kl_divergence(student, target_probs=torch.softmax(teacher / tau, -1), tau=tau), expected, 1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_kl_divergence_takes_a_temperature_for_each_sample(shape: tuple[int, int]) -> None:
    student, teacher, _ = example(*shape)
    taus = torch.linspace(1, 9, shape[0], dtype=torch.float64)
    rows = zip(student.tolist(), teacher.tolist(), taus.tolist(), strict=True)
    close(
        kl_divergence(student, target_logits=teacher, tau=taus),
        [naive.kl(v, naive.softmax(t, a), a) for v, t, a in rows],
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_probability_shift_is_the_loop(shape: tuple[int, int]) -> None:
    _, teacher, labels = example(*shape)
    expected = [naive.shift(t, y) for t, y in zip(teacher.tolist(), labels.tolist(), strict=True)]
    close(probability_shift(teacher, labels), expected, 0)


@pytest.mark.parametrize("eps", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_label_smooth_is_the_loop(shape: tuple[int, int], eps: float) -> None:
    _, teacher, labels = example(*shape)
    expected = [
        naive.smooth(len(t), y, eps) if naive.is_wrong(t, y) else naive.softmax(t, 4.0)
        for t, y in zip(teacher.tolist(), labels.tolist(), strict=True)
    ]
    close(label_smooth(teacher, labels, tau=4.0, eps=eps), expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_flsw_weights_are_the_loop(shape: tuple[int, int], gamma: float) -> None:
    student, teacher, _ = example(*shape)
    expected = [naive.flsw(v, t, gamma) for v, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    close(flsw_weights(student, teacher, gamma=gamma), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_cwsm_weights_are_the_loop(shape: tuple[int, int]) -> None:
    student, _, _ = example(*shape)
    close(cwsm_weights(student), [naive.cwsm(v) for v in student.tolist()])


@pytest.mark.parametrize("weights", [[1.0], [1.0, 3.0], [0.0, 0.0, 2.0], [33.0, 1.0, 1.0, 1.0]])
@pytest.mark.parametrize("beta", [0.0, 0.2, 2.0, 50.0])
def test_dynamic_temperature_is_the_loop(weights: list[float], beta: float) -> None:
    bounds = {"tau_0": 4.0, "beta": beta, "tau_min": 1.0, "tau_max": 40.0}
    tau = dynamic_temperature(torch.tensor(weights, dtype=torch.float64), **bounds)
    close(tau, naive.temperatures(weights, **bounds))


# Against independent code


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_kl_divergence_is_torchs(tau: float) -> None:
    student, teacher, _ = example(6, 7)
    log_q, log_p = torch.log_softmax(student / tau, -1), torch.log_softmax(teacher / tau, -1)
    expected = tau**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(kl_divergence(student, target_logits=teacher, tau=tau), expected)
    torch.testing.assert_close(kl_divergence(student, target_probs=log_p.exp(), tau=tau), expected)


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.9])
def test_label_smooth_of_a_wrong_teacher_is_torchs_label_smoothing(eps: float) -> None:
    """KL is cross-entropy less the target's entropy, so smoothing's gradient is torch's and its value differs by that."""
    student, teacher, labels = example(6, 7)
    wrong = teacher_wrong(teacher, labels)
    student, teacher, labels = student[wrong].requires_grad_(), teacher[wrong], labels[wrong]
    target = label_smooth(teacher, labels, tau=4.0, eps=eps)
    ours = kl_divergence(student, target_probs=target, tau=1.0)
    theirs = F.cross_entropy(student, labels, reduction="none", label_smoothing=eps)
    torch.testing.assert_close(ours, theirs - torch.special.entr(target).sum(-1))
    (gradient,), (expected,) = (torch.autograd.grad(loss.sum(), student) for loss in (ours, theirs))
    torch.testing.assert_close(gradient, expected)


def test_one_hot_targets_make_kl_the_cross_entropy() -> None:
    """0 log 0 is 0: a target without entropy leaves plain cross-entropy, and no NaN in its gradient."""
    student, _, labels = example(6, 7)
    student.requires_grad_()
    ours = kl_divergence(student, target_probs=F.one_hot(labels, 7).double(), tau=1.0)
    theirs = F.cross_entropy(student, labels, reduction="none")
    torch.testing.assert_close(ours, theirs)
    (gradient,), (expected,) = (torch.autograd.grad(loss.sum(), student) for loss in (ours, theirs))
    torch.testing.assert_close(gradient, expected)


# Fixed points


@pytest.mark.parametrize("tau", [1.0, 4.0, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64)])
def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient(tau: float | Tensor) -> None:
    _, teacher, _ = example(6, 7)
    student = teacher.clone().requires_grad_()
    loss = kl_divergence(student, target_logits=teacher, tau=tau)
    assert torch.equal(loss, torch.zeros(6, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert gradient.abs().max() < 1e-14


def test_a_right_teacher_is_left_alone() -> None:
    _, teacher, _ = example(6, 7)
    right = teacher.argmax(-1)
    assert not teacher_wrong(teacher, right).any()
    assert torch.equal(probability_shift(teacher, right), teacher)
    assert torch.equal(label_smooth(teacher, right, tau=4.0, eps=0.1), torch.softmax(teacher / 4, -1))


def test_a_wrong_teacher_is_made_right() -> None:
    _, teacher, labels = example(6, 7)
    assert teacher_wrong(teacher, labels).tolist() == [True, False] * 3
    for repaired in (probability_shift(teacher, labels), label_smooth(teacher, labels, tau=4.0, eps=0.1)):
        assert torch.equal(repaired.argmax(-1), labels)


def test_a_tie_at_the_top_is_right() -> None:
    """bf16 teachers tie; the label is among the best, whichever of them argmax names first."""
    tied = torch.tensor([[2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    labels = torch.tensor([0, 1, 2])
    assert not teacher_wrong(tied, labels).any()
    assert torch.equal(probability_shift(tied, labels), tied)
    assert torch.equal(label_smooth(tied, labels, tau=4.0, eps=0.1), torch.softmax(tied / 4, -1))


def test_a_tie_above_the_label_is_wrong_and_one_of_the_tied_is_swapped() -> None:
    tied, label = torch.tensor([[2.0, 0.0, 2.0]]), torch.tensor([1])
    assert teacher_wrong(tied, label).all()
    shifted = probability_shift(tied, label)
    assert shifted[0, 1] == 2 and sorted(shifted[0].tolist()) == [0, 2, 2]


def test_the_smallest_gap_is_wrong() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        offsets = torch.tensor([[0.0, -(2.0**-24)]], dtype=dtype)
        assert teacher_wrong(offsets, torch.tensor([1])).all(), dtype


# Symmetries


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Logits without ties in a row, and labels; K 2 to 8, 1 to 5 samples."""
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
    """For KL, KA and CWSM; an offset per row is no information. FLSW is the exception: see the next test."""
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
    """A cosine has an origin, so FLSW needs raw logits: on the store's offsets (z - max) its weights are others."""
    student, teacher, _ = example(6, 7)
    raw = flsw_weights(student, teacher, gamma=1.0)
    offsets = flsw_weights(student, teacher - teacher.amax(-1, keepdim=True), gamma=1.0)
    assert (raw - offsets).abs().max() > 0.1
    # and a scale, unlike a shift, changes nothing
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


# Precision


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher, labels = example(6, 7)
    v, t = student.to(dtype), teacher.to(dtype)
    pairs = [
        (kl_divergence(v, target_logits=t, tau=4.0), kl_divergence(v.float(), target_logits=t.float(), tau=4.0)),
        (label_smooth(t, labels, tau=4.0, eps=0.1), label_smooth(t.float(), labels, tau=4.0, eps=0.1)),
        (flsw_weights(v, t, gamma=1.0), flsw_weights(v.float(), t.float(), gamma=1.0)),
        (cwsm_weights(v), cwsm_weights(v.float())),
    ]
    probabilities = torch.softmax(t.float(), -1).to(dtype)
    expected = kl_divergence(v.float(), target_probs=probabilities.float(), tau=4.0)
    pairs.append((kl_divergence(v, target_probs=probabilities, tau=4.0), expected))
    for ours, theirs in pairs:
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)
    shifted = probability_shift(t, labels)
    assert shifted.dtype == dtype and torch.equal(shifted.float(), probability_shift(t.float(), labels))
    tau = dynamic_temperature(cwsm_weights(v).to(dtype), tau_0=4.0, beta=1.0, tau_min=1.0, tau_max=40.0)
    assert tau.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_stays_as_it_is(dtype: torch.dtype) -> None:
    student, teacher, labels = example(6, 7)
    v, t = student.to(dtype), teacher.to(dtype)
    weights = flsw_weights(v, t, gamma=1.0)
    for values in (
        kl_divergence(v, target_logits=t, tau=4.0),
        probability_shift(t, labels),
        label_smooth(t, labels, tau=4.0, eps=0.1),
        weights,
        cwsm_weights(v),
        dynamic_temperature(weights, tau_0=4.0, beta=1.0, tau_min=1.0, tau_max=40.0),
    ):
        assert values.dtype == dtype


def test_float32_is_close_to_float64_up_to_the_default_ceiling() -> None:
    """tau^2 KL is a small number times a large one; at tau_max 40 float32 still holds three digits."""
    student, teacher, _ = example(64, 100)
    exact = kl_divergence(student, target_logits=teacher, tau=40.0)
    single = kl_divergence(student.float(), target_logits=teacher.float(), tau=40.0).double()
    torch.testing.assert_close(single, exact, rtol=1e-3, atol=0)


def test_the_widest_gaps_that_a_store_holds_give_finite_losses() -> None:
    teacher = torch.tensor([[0.0, -65504.0, -1.0]])
    student = torch.tensor([[-300.0, 500.0, 0.0]], requires_grad=True)
    loss = kl_divergence(student, target_logits=teacher, tau=1.0)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(student.grad).all()


# Documentation and errors


@pytest.mark.parametrize("targets", [{}, {"target_logits": torch.zeros(1, 2), "target_probs": torch.ones(1, 2) / 2}])
def test_kl_divergence_takes_exactly_one_target(targets: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="exactly one of target_logits and target_probs"):
        kl_divergence(torch.zeros(1, 2), **targets, tau=1.0)


V, Y = torch.tensor([[1.0, -1.0], [0.5, 0.0]]), torch.tensor([0, 1])
INFINITE, NAN = float("inf"), float("nan")
CALLS: dict[str, Callable[..., Tensor]] = {
    "kl_divergence": lambda **given: kl_divergence(V, target_logits=V, **{"tau": 4.0, **given}),
    "label_smooth": lambda **given: label_smooth(V, Y, **{"tau": 4.0, "eps": 0.1, **given}),
    "flsw_weights": lambda **given: flsw_weights(V, -V, **{"gamma": 1.0, **given}),
    "dynamic_temperature": lambda **given: dynamic_temperature(
        V[0], **{"tau_0": 4.0, "beta": 1.0, "tau_min": 1.0, "tau_max": 40.0, **given}
    ),
    "dkd": lambda **given: losses.dkd(V, -V, Y, **{"tau": 4.0, "alpha": 1.0, "beta": 8.0, **given}),
    "dist": lambda **given: losses.dist(V, -V, **{"tau": 4.0, "beta": 1.0, "gamma": 1.0, **given}),
    "nkd": lambda **given: losses.nkd(V, -V, Y, **{"tau": 4.0, "gamma": 1.5, **given}),
    "wttm": lambda **given: losses.wttm(V, -V, **{"gamma": 0.25, **given}),
    "rld": lambda **given: losses.rld(V, -V, Y, **{"tau": 4.0, "tau_a": 1.0, "alpha": 1.0, "beta": 8.0, **given}),
    "luminet": lambda **given: losses.luminet(V, -V, **{"tau": 4.0, "alpha": 33.0, **given}),
    "sld": lambda **given: losses.sld(V, -V, Y, **{"temperatures": [1.0, 2.0], **given}),
    "mlkd": lambda **given: losses.mlkd(V, -V, V, -V, **{"temperatures": [1.0, 2.0], **given}),
    "crld": lambda **given: losses.crld(
        V,
        -V,
        V,
        -V,
        **{"tau": 4.0, "same_view": 2.0, "cross_view": 0.5, "weak_threshold": 0.9, "strong_threshold": 0.2, **given},
    ),
    "activation_boundary": lambda **given: losses.activation_boundary(V, V > 0, **{"margin": 1.0, **given}),
    "info_nce": lambda **given: losses.info_nce(V, -V, Y, **{"temperature": 0.07, **given}),
    "correlation_congruence": lambda **given: losses.correlation_congruence(
        V, -V, **{"gamma": 0.4, "order": 2, **given}
    ),
    "relational": lambda **given: losses.relational(
        torch.cat([V, 2 * V]), torch.cat([-V, V]), **{"distance": 25.0, "angle": 50.0, **given}
    ),
    "cross_entropy": lambda **given: losses.cross_entropy(V, Y, **{"eps": 0.1, **given}),
    "label_revision": lambda **given: losses.label_revision(V, Y, **{"eta": 0.8, **given}),
    "virtual_teacher_loss": lambda **given: losses.virtual_teacher_loss(
        V, Y, **{"alpha": 0.1, "tau": 20.0, "correct": 0.9, **given}
    ),
}
TEMPERATURES = [0, 0.0, -1.0, INFINITE, NAN, None, "4", True]
SAMPLES = [torch.tensor([4.0, 0.0]), torch.tensor([4.0, -1.0]), torch.tensor([4.0, NAN]), torch.tensor([INFINITE, 4.0])]
OUTSIDE: dict[tuple[str, str], list[object]] = {
    ("kl_divergence", "tau"): [*TEMPERATURES, *SAMPLES, torch.tensor(0.0)],
    ("label_smooth", "tau"): [*TEMPERATURES, *SAMPLES],
    ("label_smooth", "eps"): [-0.1, 1.1, INFINITE, NAN, None],
    ("flsw_weights", "gamma"): [0.0, -1.0, INFINITE, NAN, None],
    ("dynamic_temperature", "tau_0"): [*TEMPERATURES, 0.5, 41.0],
    ("dynamic_temperature", "tau_min"): [*TEMPERATURES, 5.0],
    ("dynamic_temperature", "tau_max"): [*TEMPERATURES, 3.0],
    ("dynamic_temperature", "beta"): [-1.0, INFINITE, NAN, None],
    **{(name, "tau"): [*TEMPERATURES, *SAMPLES] for name in ("dkd", "dist", "nkd", "rld", "luminet", "crld")},
    ("rld", "tau_a"): TEMPERATURES,
    ("correlation_congruence", "gamma"): TEMPERATURES,
    ("activation_boundary", "margin"): TEMPERATURES,
    ("info_nce", "temperature"): TEMPERATURES,
    ("correlation_congruence", "order"): [0, 33, 2.5, INFINITE, NAN, None, "2", True],
    ("wttm", "gamma"): [*TEMPERATURES, *SAMPLES],
    **{
        (name, "temperatures"): [[], [0.0], [4.0, -1.0], [INFINITE], [NAN], ["4"], None, 4.0, ()]
        for name in ("sld", "mlkd")
    },
    ("mlkd", "form"): ["published", None, 1],
    ("crld", "weak_threshold"): [-0.1, 1.1, INFINITE, NAN, None],
    ("crld", "strong_threshold"): [-0.1, 1.1, INFINITE, NAN, None],
    **{
        (name, weight): [-1.0, INFINITE, NAN, None]
        for name, weights in {
            "dkd": ("alpha", "beta"),
            "dist": ("beta", "gamma"),
            "nkd": ("gamma",),
            "rld": ("alpha", "beta"),
            "luminet": ("alpha",),
            "crld": ("same_view", "cross_view"),
            "relational": ("distance", "angle"),
        }.items()
        for weight in weights
    },
    ("cross_entropy", "eps"): [-0.1, 1.1, INFINITE, NAN, None],
    ("label_revision", "eta"): [-0.1, 1.1, INFINITE, NAN, None],
    ("virtual_teacher_loss", "alpha"): [-0.1, 1.1, INFINITE, NAN, None],
    ("virtual_teacher_loss", "tau"): TEMPERATURES,
    ("virtual_teacher_loss", "correct"): [0.0, 1.0, INFINITE, NAN, None],
    ("virtual_teacher_loss", "form"): ["published", None, 1],
    ("virtual_teacher_loss", "multiplier"): [0.0, -1.0, INFINITE, NAN, None],
}


@pytest.mark.parametrize(("name", "setting"), OUTSIDE)
def test_settings_outside_their_domain_are_refused_by_name_in_one_line(name: str, setting: str) -> None:
    assert torch.isfinite(CALLS[name]()).all()
    for value in OUTSIDE[name, setting]:
        with pytest.raises(InputError) as caught:
            CALLS[name](**{setting: value})
        message = str(caught.value)
        assert message.startswith(f"{name}: ") and setting in message and "\n" not in message, (value, message)


def test_no_public_loss_has_a_setting_that_is_not_tried() -> None:
    for name in losses.__all__:
        parameters = inspect.signature(getattr(losses, name)).parameters.values()
        settings = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY and "target" not in one.name}
        assert settings == {setting for function, setting in OUTSIDE if function == name}, name


def test_settings_at_the_edge_of_their_domain_are_taken() -> None:
    for tau in (1e-3, 4, np.float32(4), torch.tensor(4.0), torch.ones(2)):
        for name in ("kl_divergence", "label_smooth"):
            assert torch.isfinite(CALLS[name](tau=tau)).all()
    assert kl_divergence(V[:0], target_logits=V[:0], tau=torch.ones(0)).shape == (0,)
    for eps in (0, 1.0):
        torch.testing.assert_close(CALLS["label_smooth"](eps=eps).sum(-1), torch.ones(2))
    assert CALLS["dynamic_temperature"](beta=0, tau_min=4, tau_max=4).tolist() == [4.0, 4.0]
    with pytest.raises(TypeError, match="tau_min"):
        dynamic_temperature(V[0], tau_0=50.0, beta=1.0)


DOCUMENTED = ["dkd", "kl", "knowledge_adjustment", "dynamic_temperature", "vectors"]
DOCUMENTED += ["cross_entropy", "disturbed_labels", "virtual_teacher", "logit_standardisation", "label_revision"]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings_run(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"prepkd.methods.{name}"))
    assert tried > 0 and failed == 0

"""The losses' functions against loops over Python floats, against independent code, and at their fixed points."""

import naive_losses as naive
import pytest
import torch
from loss_examples import close, example
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
    """KL is cross-entropy minus the target's entropy: smoothing's gradient equals torch's, its value differs by the entropy."""
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
    """With 0 log 0 = 0, a one-hot target leaves plain cross-entropy and a gradient without NaN."""
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
    """bf16 teachers tie: the label counts as right if it is among the maxima, whichever of them argmax returns."""
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

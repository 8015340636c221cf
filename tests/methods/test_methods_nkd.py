"""NKD: against loops in float64, its value and gradient at the teacher, and which part is tempered."""

import math

import pytest
import torch
from divergences import LABELS, gradient, logits
from naive_losses import log_softmax, softmax
from prepkd.losses import nkd
from torch import Tensor


def naive(student: Tensor, teacher: Tensor, labels: Tensor, tau: float, gamma: float) -> list[float]:
    losses = []
    for v, t, y in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        own = -softmax(t, 1.0)[y] * log_softmax(v, 1.0)[y]
        rest_v, rest_t = ([z for k, z in enumerate(row) if k != y] for row in (v, t))
        pairs = zip(softmax(rest_t, tau), log_softmax(rest_v, tau), strict=True)
        losses.append(own - gamma * tau**2 * math.fsum(q_t * q_s for q_t, q_s in pairs))
    return losses


@pytest.mark.parametrize("tau", [1.0, 3.0])
@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_it_is_the_loop(tau: float, gamma: float) -> None:
    student, teacher = logits(0), logits(1)
    found = nkd(student, teacher, LABELS, tau=tau, gamma=gamma)
    assert found.tolist() == pytest.approx(naive(student, teacher, LABELS, tau, gamma), rel=1e-10)


def test_each_sample_may_have_its_own_temperature_in_the_second_part() -> None:
    student, teacher, tau = logits(0), logits(1), torch.linspace(1, 9, 5).double()
    found = nkd(student, teacher, LABELS, tau=tau, gamma=1.5).tolist()
    for i, one in enumerate(tau.tolist()):
        part = slice(i, i + 1)
        assert found[i] == pytest.approx(naive(student[part], teacher[part], LABELS[part], one, 1.5)[0])


def test_at_the_teacher_the_loss_is_positive_and_only_the_second_part_is_at_rest() -> None:
    """Both parts are cross-entropies, whose minimum is not zero."""
    student = logits(0).requires_grad_()
    whole, first = (nkd(student, logits(0), LABELS, tau=3.0, gamma=gamma) for gamma in (1.0, 0.0))
    assert (first > 0).all() and (whole > first).all()
    assert float(gradient(first, student).abs().max()) > 1e-3
    second = nkd(student, logits(0), LABELS, tau=3.0, gamma=1.0) - nkd(student, logits(0), LABELS, tau=3.0, gamma=0.0)
    assert float(gradient(second, student).abs().max()) < 1e-12


def test_the_second_part_does_not_see_the_label() -> None:
    student, teacher = logits(0), logits(1)
    moved = [z.scatter_add(1, LABELS.unsqueeze(1), torch.full((5, 1), 2.5).double()) for z in (student, teacher)]
    before, after = (
        nkd(*pair, LABELS, tau=3.0, gamma=1.0) - nkd(*pair, LABELS, tau=3.0, gamma=0.0)
        for pair in ((student, teacher), moved)
    )
    torch.testing.assert_close(before, after)


def test_two_classes_have_no_second_part() -> None:
    student, teacher, labels = logits(0, 5, 2), logits(1, 5, 2), LABELS % 2
    assert torch.equal(*(nkd(student, teacher, labels, tau=3.0, gamma=gamma) for gamma in (0.0, 1.5)))

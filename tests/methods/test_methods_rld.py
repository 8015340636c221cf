"""RLD: against loops in float64, which classes are left out, its fixed points and both temperatures."""

import pytest
import torch
from divergences import LABELS, gradient, kl_of, log_rest, logits, of_objective
from naive_losses import log_softmax
from prepkd.losses import dkd, probability_shift, rld
from torch import Tensor


def parts(v: list[float], t: list[float], y: int, tau: float, tau_a: float) -> tuple[float, float]:
    """Return tau_a^2 KL of the confidences, and tau^2 KL of the classes below the label."""
    top = t.index(max(t))
    sure_t = [log_softmax(t, tau_a)[top], log_rest(t, top, tau_a)]
    sure_s = [log_softmax(v, tau_a)[y], log_rest(v, y, tau_a)]
    below = [k for k in range(len(t)) if t[k] < t[y]]
    left = [log_softmax([row[k] for k in below], tau) for row in (t, v)] if below else [[], []]
    return tau_a**2 * kl_of(sure_t, sure_s), tau**2 * kl_of(*left)


def naive(
    student: Tensor, teacher: Tensor, labels: Tensor, tau: float, tau_a: float, alpha: float, beta: float
) -> list[float]:
    rows = zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True)
    found = (parts(v, t, y, tau, tau_a) for v, t, y in rows)
    return [alpha * confidence + beta * correlation for confidence, correlation in found]


@pytest.mark.parametrize(("tau", "tau_a"), [(4.0, 1.0), (2.0, 2.0)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 8.0), (0.0, 1.0), (2.0, 0.0)])
def test_it_is_the_loop(tau: float, tau_a: float, alpha: float, beta: float) -> None:
    student, teacher = logits(0), logits(1)
    found = rld(student, teacher, LABELS, tau=tau, tau_a=tau_a, alpha=alpha, beta=beta)
    assert found.tolist() == pytest.approx(naive(student, teacher, LABELS, tau, tau_a, alpha, beta), rel=1e-9)


def test_a_temperature_for_each_sample_is_the_second_parts() -> None:
    student, teacher, tau = logits(0), logits(1), torch.linspace(1, 9, 5).double()
    found = rld(student, teacher, LABELS, tau=tau, tau_a=1.0, alpha=1.0, beta=8.0).tolist()
    for i, one in enumerate(tau.tolist()):
        expected = naive(student[i : i + 1], teacher[i : i + 1], LABELS[i : i + 1], one, 1.0, 1.0, 8.0)
        assert found[i] == pytest.approx(expected[0])


def test_an_equal_student_is_at_rest_where_the_teacher_is_right_and_only_there() -> None:
    teacher, labels = logits(0), logits(0).argmax(1)
    labels[0] = (labels[0] + 1) % 6
    student = teacher.clone().requires_grad_()
    loss = rld(student, teacher, labels, tau=4.0, tau_a=1.0, alpha=1.0, beta=8.0)
    slopes = gradient(loss, student).abs().amax(1)
    assert float(loss.detach()[1:].abs().max()) < 1e-12 and float(slopes[1:].max()) < 1e-12
    assert float(loss.detach()[0]) > 0 and float(slopes[0]) > 1e-3


def test_below_the_teachers_least_class_there_is_nothing_to_learn() -> None:
    teacher = logits(1)
    student = logits(0).requires_grad_()
    loss = rld(student, teacher, teacher.argmin(1), tau=4.0, tau_a=1.0, alpha=0.0, beta=8.0)
    assert loss.abs().max() == 0 and gradient(loss, student).abs().max() == 0


def test_ties_with_the_label_are_left_out() -> None:
    teacher = torch.tensor([[3.0, 2.0, 2.0, 1.0, 0.0]]).double()
    label = torch.tensor([1])
    student = logits(0, 1, 5)
    plain = rld(student, teacher, label, tau=4.0, tau_a=1.0, alpha=0.0, beta=1.0)
    for k in (0, 1, 2):  # a class above the label, the label, the tied class
        moved = student.index_add(1, torch.tensor([k]), torch.ones(1, 1).double())
        torch.testing.assert_close(rld(moved, teacher, label, tau=4.0, tau_a=1.0, alpha=0.0, beta=1.0), plain)
    expected = naive(student[:, 3:], teacher[:, 3:], torch.tensor([0]), 4.0, 1.0, 0.0, 0.0)
    assert expected == [0.0] and float(plain) == pytest.approx(
        16 * kl_of(log_softmax([1.0, 0.0], 4.0), log_softmax(student[0, 3:].tolist(), 4.0))
    )


def test_for_a_right_teacher_and_after_a_swap_it_is_dkd_with_two_temperatures() -> None:
    student, teacher = logits(0), probability_shift(logits(1), LABELS)
    found = rld(student, teacher, LABELS, tau=4.0, tau_a=1.0, alpha=1.0, beta=8.0)
    first = dkd(student, teacher, LABELS, tau=1.0, alpha=1.0, beta=0.0)
    torch.testing.assert_close(found, first + dkd(student, teacher, LABELS, tau=4.0, alpha=0.0, beta=8.0))


def test_two_classes_have_no_second_part() -> None:
    student, teacher, labels = logits(0, 5, 2), logits(1, 5, 2), LABELS % 2
    assert float(rld(student, teacher, labels, tau=4.0, tau_a=1.0, alpha=0.0, beta=8.0).abs().max()) == 0


def test_the_settings_reach_it() -> None:
    student, teacher = logits(0), logits(1)
    own = {"tau_a": 3.0, "alpha": 0.5, "beta": 2.0, "warmup_epochs": 0}
    found = of_objective("rld", student, teacher, LABELS, rld=own, kd={"tau": 2.0})["kd"]
    torch.testing.assert_close(found, rld(student, teacher, LABELS, tau=2.0, tau_a=3.0, alpha=0.5, beta=2.0))

"""SLD with one view: against loops in float64, both teachers, the second teacher's first epoch, and its missing gradient."""

import pytest
import torch
from divergences import LABELS, gradient, logits, of_objective, settings
from naive_losses import kl, shift, softmax
from prepkd.losses import kl_divergence, probability_shift, sld
from prepkd.methods.objective import Objective
from torch import Tensor

TEMPERATURES = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def naive(student: Tensor, teacher: Tensor, labels: Tensor) -> list[float]:
    rows = zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True)
    return [sum(kl(v, softmax(shift(t, y), tau), tau) for tau in TEMPERATURES) for v, t, y in rows]


def in_epoch(epoch: int, student: Tensor, teacher: Tensor) -> Tensor:
    objective = Objective(settings("sld", sld={"student_from_epoch": 3}, ce_weight=0.0, kd_weight=1.0).terms)
    objective.epoch.fill_(epoch)
    answers = {"logits": teacher - teacher.amax(1, keepdim=True), "row_max": teacher.amax(1)}
    return objective({"logits": student}, LABELS, answers)["loss"]


def test_it_is_the_loop() -> None:
    student, teacher = logits(0), logits(1)
    assert (teacher.argmax(1) != LABELS).any()
    found = sld(student, teacher, LABELS, temperatures=TEMPERATURES)
    assert found.tolist() == pytest.approx(naive(student, teacher, LABELS), rel=1e-10)
    assert torch.equal(sld(student, teacher, LABELS, temperatures=tuple(TEMPERATURES)), found)


def test_with_one_temperature_it_is_kd_after_a_swap() -> None:
    student, teacher = logits(0), logits(1)
    expected = kl_divergence(student, target_logits=probability_shift(teacher, LABELS), tau=4.0)
    assert torch.equal(sld(student, teacher, LABELS, temperatures=[4.0]), expected)


def test_the_student_teaches_itself_from_its_epoch() -> None:
    student, teacher = logits(0), logits(1)
    first, second = (naive(student, target, LABELS) for target in (teacher, student))
    assert in_epoch(2, student, teacher).tolist() == pytest.approx(first)
    both = [a + b for a, b in zip(first, second, strict=True)]
    for epoch in (3, 100):
        assert in_epoch(epoch, student, teacher).tolist() == pytest.approx(both)


def test_no_gradient_flows_into_the_students_own_answer() -> None:
    """In the authors' code a gradient flows through the target: it is about three times as long."""
    student = logits(0).requires_grad_()
    own = sld(student, student, LABELS, temperatures=TEMPERATURES)
    apart = sld(student, logits(0), LABELS, temperatures=TEMPERATURES)
    assert torch.equal(gradient(own, student), gradient(apart, student))
    assert gradient(in_epoch(5, student, logits(1)), student).abs().max() > 0


def test_a_student_that_is_the_swapped_teacher_is_at_rest() -> None:
    teacher = logits(1)
    student = probability_shift(teacher, LABELS).requires_grad_()
    loss = in_epoch(5, student, teacher)  # from both teachers
    assert float(loss.detach().abs().max()) < 1e-11 and float(gradient(loss, student).abs().max()) < 1e-11


def test_a_right_student_has_nothing_to_teach_itself() -> None:
    student = logits(0)
    assert float(sld(student, student, student.argmax(1), temperatures=TEMPERATURES).abs().max()) < 1e-12


def test_a_swap_before_it_would_change_nothing() -> None:
    student, teacher = logits(0), logits(1)
    twice = sld(student, probability_shift(teacher, LABELS), LABELS, temperatures=TEMPERATURES)
    torch.testing.assert_close(twice, sld(student, teacher, LABELS, temperatures=TEMPERATURES))


def test_the_settings_reach_it_and_kd_tau_does_not() -> None:
    student, teacher = logits(0), logits(1)
    found = of_objective("sld", student, teacher, sld={"temperatures": [2.0, 8.0]}, kd={"tau": 20.0})["kd"]
    torch.testing.assert_close(found, sld(student, teacher, LABELS, temperatures=[2.0, 8.0]))

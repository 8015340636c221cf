"""Teacher-free KD with a virtual teacher: both forms against loops in float64, and the difference of the published form."""

import math
from typing import Any

import pytest
import torch
from divergences import LABELS, logits
from naive_losses import distillation_loss, kl, smoothed_cross_entropy, softmax
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.losses import cross_entropy, virtual_teacher_loss
from prepkd.methods.grammar import parse_method
from prepkd.methods.terms import TERMS
from prepkd.methods.virtual_teacher import virtual_teacher


def settings(method: str = "tf-kd-virtual", **changes: Any) -> Distill:
    wanted = {"teacher": "t", "student": "convnet4", "epochs": 1, "method": method}
    return Distill.model_validate(wanted | {"tf_kd_virtual": changes})


def by_hand(student: list[float], y: int, form: str, alpha: float, tau: float, correct: float, factor: float) -> float:
    """Return one sample's loss from the equations, with the probabilities raised to 1 / tau."""
    classes = len(student)
    u = [correct if k == y else (1 - correct) / (classes - 1) for k in range(classes)]
    if form == "as-intended":
        powers = [p ** (1 / tau) for p in u]
        kd = kl(student, [p / math.fsum(powers) for p in powers], tau)
    else:
        kd = factor / classes * kl(student, softmax(u, tau), 1.0)
    return (1 - alpha) * smoothed_cross_entropy(student, y, 0.0) + alpha * kd


@pytest.mark.parametrize("form", ["as-intended", "as-published"])
@pytest.mark.parametrize(("tau", "alpha"), [(1.0, 1.0), (20.0, 0.1), (40.0, 0.95)])
@pytest.mark.parametrize("shape", [(1, 2), (5, 6), (3, 100)])
def test_both_forms_are_the_loops(shape: tuple[int, int], tau: float, alpha: float, form: str) -> None:
    student, labels = logits(0, *shape), torch.arange(shape[0]) % shape[1]
    chosen = settings(form=form, alpha=alpha, tau=tau, correct=0.9, multiplier=50.0)
    expected = [
        by_hand(row, y, form, alpha, tau, 0.9, 50.0) for row, y in zip(student.tolist(), labels.tolist(), strict=True)
    ]
    values = distillation_loss(chosen, student, labels, None, None)
    assert values["loss"].tolist() == pytest.approx(expected, rel=1e-10)


def test_at_temperature_one_its_gradient_is_label_smoothings() -> None:
    eps, classes = 0.1, 6
    student = logits(0).requires_grad_()
    correct = 1 - eps * (classes - 1) / classes
    ours = virtual_teacher_loss(student, LABELS, alpha=1.0, tau=1.0, correct=correct)
    theirs = cross_entropy(student, LABELS, eps=eps)
    (gradient,), (expected,) = (torch.autograd.grad(loss.sum(), student) for loss in (ours, theirs))
    torch.testing.assert_close(gradient, expected)


def test_the_student_that_is_the_virtual_teacher_has_no_loss() -> None:
    student = virtual_teacher(LABELS, 6, correct=0.99, dtype=torch.float64).log().requires_grad_()
    loss = virtual_teacher_loss(student, LABELS, alpha=1.0, tau=20.0, correct=0.99)
    loss.sum().backward()
    assert student.grad is not None
    assert float(loss.detach().abs().max()) < 1e-12 and float(student.grad.abs().max()) < 1e-12


def test_the_published_target_is_nearly_uniform() -> None:
    """The softmax of probabilities at tau 20 with 100 classes gives the label 0.0105; tempering gives 0.0157."""
    u = virtual_teacher(torch.tensor([3]), 100, correct=0.99, dtype=torch.float64)
    assert float(torch.softmax(u / 20, 1).amax()) == pytest.approx(0.0105, abs=5e-5)
    assert float(torch.softmax(u.log() / 20, 1).amax()) == pytest.approx(0.0157, abs=5e-5)
    uniform = torch.zeros(1, 100, dtype=torch.float64)
    published = virtual_teacher_loss(uniform, torch.tensor([3]), alpha=1.0, tau=20.0, correct=0.99, form="as-published")
    intended = virtual_teacher_loss(uniform, torch.tensor([3]), alpha=1.0, tau=20.0, correct=0.99)
    assert float(published) < 1e-4 < 0.1 < float(intended), (
        "a student that knows nothing: the published form is content"
    )


def test_it_excludes_a_teachers_logits_and_not_features() -> None:
    for name in ("kd", "dkd", "ka-ps", "ls", "dtd-flsw", "noisy-teacher"):
        with pytest.raises(ValueError, match="a teacher of its own, made of the labels"):
            parse_method(f"tf-kd-virtual+{name}")
    assert parse_method("tf-kd-virtual+at").feature_terms == (TERMS["at"],)


def test_settings_outside_their_domain_are_refused() -> None:
    with pytest.raises(InputError, match="correct"):
        virtual_teacher_loss(logits(0), LABELS, alpha=0.1, tau=20.0, correct=1.0)
    with pytest.raises(ValueError, match="form"):
        settings(form="published")

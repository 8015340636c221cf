"""WTTM: against loops in float64, the power transform, its weight, and small probabilities in half precision."""

import math

import pytest
import torch
from divergences import LABELS, gradient, kl_of, logits, of_objective
from naive_losses import log_softmax, softmax
from prepkd.losses import kl_divergence, wttm
from torch import Tensor


def naive(student: Tensor, teacher: Tensor, gamma: float) -> list[float]:
    losses = []
    for v, t in zip(student.tolist(), teacher.tolist(), strict=True):
        powers = [p**gamma for p in softmax(t, 1.0)]
        total = math.fsum(powers)
        losses.append(total * kl_of([math.log(p / total) for p in powers], log_softmax(v, 1.0)))
    return losses


@pytest.mark.parametrize("gamma", [0.1, 0.25, 1.0, 2.0])
def test_it_is_the_loop(gamma: float) -> None:
    student, teacher = logits(0), logits(1)
    assert wttm(student, teacher, gamma=gamma).tolist() == pytest.approx(naive(student, teacher, gamma), rel=1e-10)


def test_each_sample_may_have_its_own_exponent() -> None:
    student, teacher, gamma = logits(0), logits(1), torch.linspace(0.1, 1, 5).double()
    expected = [naive(student[i : i + 1], teacher[i : i + 1], one)[0] for i, one in enumerate(gamma.tolist())]
    assert wttm(student, teacher, gamma=gamma).tolist() == pytest.approx(expected, rel=1e-10)


def test_without_a_power_it_is_kd_at_temperature_1() -> None:
    student, teacher = logits(0), logits(1)
    torch.testing.assert_close(
        wttm(student, teacher, gamma=1.0), kl_divergence(student, target_logits=teacher, tau=1.0)
    )


def weights(teacher: Tensor, gamma: float) -> Tensor:
    """Return U, from the loss and from KL with the teacher at tau = 1 / gamma."""
    student = logits(5, *teacher.shape)
    return wttm(student, teacher, gamma=gamma) / kl_divergence(student, target_logits=gamma * teacher, tau=1.0)


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_the_weight_is_between_1_for_a_sure_teacher_and_its_limit_for_an_unsure_one(gamma: float) -> None:
    most = 6 ** (1 - gamma)
    found = weights(logits(1), gamma)
    assert (found > 1).all() and (found < most).all()
    torch.testing.assert_close(weights(torch.zeros(1, 6).double(), gamma), torch.tensor([most]).double())
    sure = weights(1000 * torch.eye(6).double(), gamma)
    torch.testing.assert_close(sure, torch.ones(6).double())


def test_the_student_is_at_rest_at_the_tempered_teacher_not_at_the_teacher() -> None:
    teacher = logits(0)
    for student, rests in ((teacher / 4, True), (teacher, False)):
        student = student.clone().requires_grad_()
        loss = wttm(student, teacher, gamma=0.25)
        assert (float(gradient(loss, student).abs().max()) < 1e-12) == rests
        assert (float(loss.detach().max()) < 1e-12) == rests


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_power_of_a_small_probability_is_not_lost(dtype: torch.dtype) -> None:
    """A class of probability 1e-8 is 0 in float16; its power 0.1 is 0.16."""
    teacher = torch.tensor([[0.0, -18.0, -18.0]])
    student = torch.tensor([[1.0, 2.0, 0.5]])
    found = wttm(student.to(dtype), teacher.to(dtype), gamma=0.1)
    assert found.tolist() == pytest.approx(naive(student, teacher, 0.1), rel=1e-5)


def test_its_exponent_is_one_over_the_temperature_without_its_square() -> None:
    student, teacher = logits(0), logits(1)
    found = of_objective("wttm", student, teacher, LABELS, kd={"tau": 5.0})["kd"]
    assert found.tolist() == pytest.approx(naive(student, teacher, 0.2), rel=1e-10)


def test_large_raw_logits_keep_their_weight() -> None:
    teacher = logits(1).float()
    torch.testing.assert_close(
        wttm(logits(0).float(), teacher + 4096, gamma=0.25),
        wttm(logits(0).float(), teacher, gamma=0.25),
        rtol=1e-2,
        atol=1e-2,
    )

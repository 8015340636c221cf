"""Logit standardisation: against loops in float64, its invariances, and its place between adjustment and temperature."""

import math
from typing import Any

import pytest
import torch
from divergences import LABELS, logits
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from naive_losses import distillation_loss, flsw, kl, softmax, temperatures
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.losses import kl_divergence, label_revision, probability_shift, standardise
from prepkd.methods.dkd import dkd_parts
from prepkd.methods.grammar import parse_method
from prepkd.methods.term import Target
from torch import Tensor


def settings(method: str = "ls", **changes: Any) -> Distill:
    wanted = {"teacher": "t", "student": "convnet4", "epochs": 1, "method": method, "kd": {"tau": 2.0}}
    return Distill.model_validate(wanted | {"dkd": {"warmup_epochs": 0}} | changes)


def loss(method: str, student: Tensor, teacher: Tensor, **changes: Any) -> dict[str, Tensor]:
    row_max = teacher.amax(1)
    return distillation_loss(settings(method, **changes), student, LABELS, teacher - row_max.unsqueeze(1), row_max)


def z(row: list[float]) -> list[float]:
    mean = math.fsum(row) / len(row)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in row) / (len(row) - 1))
    return [(x - mean) / deviation for x in row]


@pytest.mark.parametrize("shape", [(1, 3), (5, 6), (3, 1000), (4, 2)])
def test_it_is_the_loop(shape: tuple[int, int]) -> None:
    rows = logits(0, *shape)
    found = standardise(rows)
    torch.testing.assert_close(found, torch.tensor([z(row) for row in rows.tolist()], dtype=torch.float64))
    torch.testing.assert_close(found.square().sum(1), torch.full((shape[0],), shape[1] - 1.0).double())
    assert float(found.max()) < (shape[1] - 1) / math.sqrt(shape[1]) + 1e-12


def test_kd_is_of_the_z_scores_and_auto_has_the_papers_weights() -> None:
    student, teacher = logits(0), logits(1)
    values = loss("ls", student, teacher)
    expected = [kl(z(v), softmax(z(t), 2.0), 2.0) for v, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert values["kd"].tolist() == pytest.approx(expected, rel=1e-10)
    assert settings("ls").loss_weights == (0.1, 9.0) and settings("ls+dkd").loss_weights == (1.0, 9.0)
    assert settings("ka-ps+ls+dtd-flsw+dkd").loss_weights == (0.0, 9.0)


@examples(deadline=None, max_examples=60, derandomize=True)
@given(st.floats(0.01, 100), st.floats(-1000, 1000))
def test_scale_and_shift_of_a_row_do_not_matter(scale: float, shift: float) -> None:
    rows = logits(0)
    torch.testing.assert_close(standardise(scale * rows + shift), standardise(rows), rtol=1e-7, atol=1e-7)


def test_a_student_that_is_affine_in_its_teacher_has_no_loss_and_no_gradient() -> None:
    teacher = logits(1)
    student = (2.5 * teacher - 7).requires_grad_()
    kd = kl_divergence(standardise(student), target_logits=standardise(teacher), tau=2.0)
    kd.sum().backward()
    assert student.grad is not None
    assert float(kd.detach().abs().max()) < 1e-12 and float(student.grad.abs().max()) < 1e-12


def test_the_gradient_flows_through_mean_and_deviation() -> None:
    student = logits(0).requires_grad_()
    kl_divergence(standardise(student), target_logits=standardise(logits(1)), tau=2.0).sum().backward()
    assert student.grad is not None and float(student.grad.abs().max()) > 0.01
    for direction in (torch.ones_like(student), student.detach()):
        assert float((student.grad * direction).sum(1).abs().max()) < 1e-12
    assert torch.autograd.gradcheck(standardise, student)


def test_a_swap_commutes_with_it() -> None:
    teacher = logits(1)
    torch.testing.assert_close(
        standardise(probability_shift(teacher, LABELS)), probability_shift(standardise(teacher), LABELS)
    )


def test_with_dkd_and_ka_ps() -> None:
    student, teacher = logits(0), logits(1)
    found = (
        Target(values).log_probs(2.0)
        for values in (standardise(student), standardise(probability_shift(teacher, LABELS)))
    )
    own, others = dkd_parts(*found, LABELS, tau=2.0)
    torch.testing.assert_close(loss("ka-ps+ls+dkd", student, teacher)["kd"], own + 8 * others)


def test_dtds_weights_are_of_the_raw_logits() -> None:
    """On standardised logits FLSW would be one minus Pearson's correlation, and CWSM's w about 14 at 100 classes."""
    student, teacher = logits(0), logits(1) + 5
    values = loss("ls+dtd-flsw", student, teacher)
    weights = [flsw(v, t, 1.0) for v, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    taus = temperatures(weights, 4.0, 2.0, 1.0, 40.0)
    assert values["tau"].tolist() == pytest.approx(taus, rel=1e-10)
    expected = [
        kl(z(v), softmax(z(t), tau), tau) for v, t, tau in zip(student.tolist(), teacher.tolist(), taus, strict=True)
    ]
    assert values["kd"].tolist() == pytest.approx(expected, rel=1e-10)


def test_of_a_revised_answer_the_logarithms_are_standardised() -> None:
    student, teacher = logits(0), logits(1)
    revised = label_revision(teacher, LABELS, eta=0.8)
    expected = kl_divergence(standardise(student), target_logits=standardise(revised.log()), tau=2.0)
    torch.testing.assert_close(loss("label-revision+ls", student, teacher)["kd"], expected)


@pytest.mark.parametrize("row", [[0.0] * 5, [3.0] * 5, [8000.0, 0, 0, 0, -8000.0], [0.0, 0.0, 1e-6, 0.0, 0.0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_constant_and_extreme_rows_have_bounded_gradients(row: list[float], dtype: torch.dtype) -> None:
    """A zero-initialised head gives constant rows: dividing by 1e-7 + s would give gradients of 1e5 and more."""
    student = torch.tensor([row], dtype=dtype, requires_grad=True)
    kd = kl_divergence(standardise(student), target_logits=standardise(logits(1, 1, 5).float()), tau=2.0)
    kd.sum().backward()
    assert kd.dtype == torch.float32 and kd.isfinite().all()
    assert student.grad is not None and float(student.grad.abs().max()) < 2e3
    constant = standardise(torch.tensor([[3.0] * 5]))
    assert constant.tolist() == [[0.0] * 5]


def test_two_classes_are_refused_and_their_z_scores_are_signs() -> None:
    torch.testing.assert_close(standardise(torch.tensor([[5.0, 1.0]])), torch.tensor([[0.5**0.5, -(0.5**0.5)]]))
    row_max = torch.zeros(2)
    with pytest.raises(InputError, match=r"method with ls and 2 classes; .* leave out ls"):
        distillation_loss(settings(), torch.zeros(2, 2), torch.tensor([0, 1]), torch.zeros(2, 2), row_max)


@pytest.mark.parametrize("other", ["ka-lsr", "tf-kd-virtual"])
def test_two_valued_answers_are_refused(other: str) -> None:
    """After standardisation a smoothed label is the same for every eps, and so is a virtual teacher."""
    rows = [standardise(torch.tensor([[1 - eps + eps / 4, eps / 4, eps / 4, eps / 4]]).log()) for eps in (0.1, 0.5)]
    torch.testing.assert_close(*rows)
    with pytest.raises(ValueError, match="exclude each other"):
        parse_method(f"{other}+ls")

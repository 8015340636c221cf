"""Label revision: against loops in float64, the label's lead, and its combinations with other terms."""

from typing import Any

import pytest
import torch
from divergences import LABELS, logits
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from naive_losses import distillation_loss, is_wrong, kl, softmax
from prepkd.data.samples.labels import mixture
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.losses import label_revision, teacher_wrong
from prepkd.methods.dkd import dkd_parts
from prepkd.methods.grammar import parse_method
from prepkd.methods.term import Target
from torch import Tensor


def settings(method: str = "label-revision", **changes: Any) -> Distill:
    wanted = {"teacher": "t", "student": "convnet4", "epochs": 1, "method": method, "dkd": {"warmup_epochs": 0}}
    return Distill.model_validate(wanted | changes)


def loss(method: str, student: Tensor, teacher: Tensor, labels: Tensor = LABELS, **changes: Any) -> dict[str, Tensor]:
    row_max = teacher.amax(1)
    return distillation_loss(settings(method, **changes), student, labels, teacher - row_max.unsqueeze(1), row_max)


def revised(row: list[float], y: int, eta: float) -> list[float]:
    p = softmax(row, 1.0)
    if not is_wrong(row, y):
        return p
    b = eta / (max(p) - p[y] + 1)
    return [b * p[k] + (1 - b) * (k == y) for k in range(len(p))]


@pytest.mark.parametrize("eta", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("shape", [(1, 2), (5, 6), (3, 1000)])
def test_it_is_the_loop(shape: tuple[int, int], eta: float) -> None:
    teacher, labels = logits(1, *shape), (7 * torch.arange(shape[0])) % shape[1]
    expected = [revised(t, y, eta) for t, y in zip(teacher.tolist(), labels.tolist(), strict=True)]
    torch.testing.assert_close(label_revision(teacher, labels, eta=eta), torch.tensor(expected, dtype=torch.float64))


@examples(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_the_label_leads_by_one_minus_eta(seed: int, eta: float) -> None:
    teacher = logits(seed)
    wrong = teacher_wrong(teacher, LABELS)
    found = label_revision(teacher, LABELS, eta=eta)
    torch.testing.assert_close(found.sum(1), torch.ones(5).double())
    own = found.gather(1, LABELS.unsqueeze(1)).squeeze(1)
    others = found.scatter(1, LABELS.unsqueeze(1), 0).amax(1)
    torch.testing.assert_close((own - others)[wrong], torch.full((5,), 1 - eta).double()[wrong])
    torch.testing.assert_close(found[~wrong], torch.softmax(teacher, 1)[~wrong])


def test_a_shift_of_a_row_does_not_matter_and_eta_zero_is_the_label() -> None:
    teacher = logits(1)
    torch.testing.assert_close(label_revision(teacher + 9, LABELS, eta=0.8), label_revision(teacher, LABELS, eta=0.8))
    wrong = teacher_wrong(teacher, LABELS)
    onehot = torch.nn.functional.one_hot(LABELS, 6).double()
    assert torch.equal(label_revision(teacher, LABELS, eta=0.0)[wrong], onehot[wrong]) and wrong.any()


def test_wrong_answers_are_taken_untempered_and_right_ones_at_the_temperature() -> None:
    student, teacher = logits(0), logits(1)
    labels = LABELS.clone()
    labels[:2] = teacher.argmax(1)[:2]
    values = loss("label-revision", student, teacher, labels)
    expected = []
    for v, t, y in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        target = revised(t, y, 0.8) if is_wrong(t, y) else softmax(t, 4.0)
        expected.append(kl(v, target, 4.0))
    assert values["kd"].tolist() == pytest.approx(expected, rel=1e-10)
    assert values["adjusted"].tolist() == [
        float(is_wrong(t, y)) for t, y in zip(teacher.tolist(), labels.tolist(), strict=True)
    ]
    assert settings().loss_weights == (1.0, 1.0), "the published numbers have a cross-entropy beside it"


@pytest.mark.parametrize("temperature", ["", "dtd-flsw"])
def test_with_dkd_and_dtd(temperature: str) -> None:
    student, teacher = logits(0), logits(1)
    values = loss("+".join(filter(None, ("label-revision", "dkd", temperature))), student, teacher)
    tau = values["tau"] if temperature else 4.0
    target = Target(teacher).log_probs(tau)
    wrong = teacher_wrong(teacher, LABELS).unsqueeze(1)
    target = torch.where(wrong, label_revision(teacher, LABELS, eta=0.8).log(), target)
    own, others = dkd_parts(Target(student).log_probs(tau), target, LABELS, tau=tau)
    torch.testing.assert_close(values["kd"], own + 8 * others)


def test_of_a_mixture_the_largest_share_leads_by_its_part() -> None:
    teacher = logits(1)
    shares = mixture(LABELS, torch.tensor([1, 0, 1, 0, 1]), torch.full((5,), 0.75), 6)
    wrong = teacher_wrong(teacher, shares)
    found = label_revision(teacher, shares, eta=0.8)
    assert wrong.any()
    torch.testing.assert_close(found.sum(1), torch.ones(5).double())
    own = found.gather(1, LABELS.unsqueeze(1)).squeeze(1)
    others = found.masked_fill(shares > 0, 0).amax(1)
    torch.testing.assert_close((own - others)[wrong], torch.full((5,), 0.75 * 0.2).double()[wrong])
    whole = mixture(LABELS, torch.tensor([1, 0, 1, 0, 1]), torch.ones(5), 6)
    torch.testing.assert_close(label_revision(teacher, whole, eta=0.8), label_revision(teacher, LABELS, eta=0.8))


@pytest.mark.parametrize("at", [-8000.0, 8000.0])
def test_extreme_logits_and_half_precision_stay_finite(at: float) -> None:
    teacher = torch.zeros(1, 5, dtype=torch.bfloat16)
    teacher[0, 2] = at
    student = torch.full((1, 5), -at, dtype=torch.bfloat16).scatter(1, torch.tensor([[2]]), at).requires_grad_()
    row_max = teacher.float().amax(1)
    for label in (2, 3):
        stored = teacher.float() - row_max.unsqueeze(1), row_max
        for method in ("label-revision", "label-revision+ls+dkd"):
            values = distillation_loss(settings(method), student, torch.tensor([label]), *stored)
            (gradient,) = torch.autograd.grad(values["loss"].sum(), student)
            assert values["loss"].dtype == torch.float32
            assert values["loss"].isfinite().all() and gradient.isfinite().all()


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="eta"):
        label_revision(logits(0), LABELS, eta=1.5)
    with pytest.raises(ValueError, match="ka-ps and label-revision exclude each other; one of them"):
        parse_method("ka-ps+label-revision")

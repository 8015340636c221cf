"""DKD: against loops in float64, its identity with KD, its fixed points, and where naive code fails."""

import math

import pytest
import torch
from divergences import LABELS, logits
from naive_losses import distillation_loss, kl, softmax
from prepkd.distillation.student_settings import Distill
from prepkd.losses import kl_divergence
from prepkd.methods.dkd import DKD, dkd_parts
from prepkd.methods.grammar import parse_method
from prepkd.methods.objective import Objective
from prepkd.methods.term import State, Target
from torch import Tensor


def parts(student: Tensor, teacher: Tensor, labels: Tensor = LABELS, tau: float = 4.0) -> tuple[Tensor, Tensor]:
    found = (Target(values).log_probs(tau) for values in (student, teacher))
    return dkd_parts(*found, labels, tau=tau)


def settings(method: str = "dkd", **changes: object) -> Distill:
    wanted = {"teacher": "t", "student": "convnet4", "epochs": 1, "method": method, "dkd": {"warmup_epochs": 0}}
    return Distill.model_validate(wanted | changes)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_both_parts_are_the_loops(tau: float) -> None:
    student, teacher = logits(0), logits(1)
    target, others = parts(student, teacher, tau=tau)
    for i, label in enumerate(LABELS.tolist()):
        p_s, p_t = (softmax(values[i].tolist(), tau) for values in (student, teacher))
        pair_s, pair_t = ([p[label], 1 - p[label]] for p in (p_s, p_t))
        expected = tau**2 * sum(t * math.log(t / s) for t, s in zip(pair_t, pair_s, strict=True))
        assert float(target[i]) == pytest.approx(expected, rel=1e-9)
        left_s, left_t = ([z for k, z in enumerate(values[i].tolist()) if k != label] for values in (student, teacher))
        assert float(others[i]) == pytest.approx(kl(left_s, softmax(left_t, tau), tau), rel=1e-9)


def test_kd_is_the_first_part_plus_the_teachers_doubt_times_the_second() -> None:
    student, teacher = logits(0), logits(1)
    target, others = parts(student, teacher)
    doubt = 1 - torch.softmax(teacher / 4, -1).gather(1, LABELS.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(target + doubt * others, kl_divergence(student, target_logits=teacher, tau=4.0))


def test_an_equal_student_has_no_loss_and_no_gradient() -> None:
    student = logits(0).requires_grad_()
    target, others = parts(student, logits(0))
    assert float((target + others).detach().abs().max()) < 1e-12
    (target + others).sum().backward()
    assert student.grad is not None and float(student.grad.abs().max()) < 1e-12


def test_rows_may_be_shifted_and_the_second_part_does_not_see_the_label() -> None:
    student, teacher = logits(0), logits(1)
    plain = parts(student, teacher)
    shifted = parts(student + 7, teacher - 3)
    for one, other in zip(plain, shifted, strict=True):
        torch.testing.assert_close(one, other)
    moved = (
        values.scatter_add(1, LABELS.unsqueeze(1), torch.full((5, 1), 2.5).double()) for values in (student, teacher)
    )
    torch.testing.assert_close(parts(*moved)[1], plain[1])


@pytest.mark.parametrize("gap", [-8000.0, -1000.0, 80.0, 8000.0])
def test_extreme_logits_stay_finite(gap: float) -> None:
    """Naive code gives infinities and NaN here: log(softmax) of the pair, and masks of -1000."""
    student = torch.zeros(1, 5)
    student[0, 2] = gap
    student.requires_grad_()
    target, others = parts(student, logits(1, 1, 5).float(), torch.tensor([2]))
    (target + others).sum().backward()
    assert target.isfinite().all() and others.isfinite().all()
    assert student.grad is not None and student.grad.isfinite().all()


def test_two_classes_have_no_other_part() -> None:
    _, others = parts(logits(0, 5, 2), logits(1, 5, 2), LABELS % 2)
    assert others.tolist() == [0.0] * 5


def test_the_objective_weighs_both_parts_and_the_cross_entropy() -> None:
    student, teacher = logits(0), logits(1)
    row_max = teacher.amax(1)
    chosen = settings(dkd={"alpha": 0.5, "beta": 6.0, "warmup_epochs": 0})
    values = distillation_loss(chosen, student, LABELS, teacher - row_max.unsqueeze(1), row_max)
    target, others = parts(student, teacher)
    ce = torch.nn.functional.cross_entropy(student, LABELS, reduction="none")
    torch.testing.assert_close(values["loss"], ce + 0.5 * target + 6 * others)
    torch.testing.assert_close(values["target_class"], target)
    torch.testing.assert_close(values["other_classes"], others)


@pytest.mark.parametrize(("epoch", "share"), [(0, 0.05), (9, 0.5), (19, 1.0), (100, 1.0)])
def test_it_warms_up(epoch: int, share: float) -> None:
    whole, early = (
        DKD(warmup_epochs=warm).divergence(
            logits(0), Target(logits(1)), LABELS, 4.0, State(torch.tensor(float(epoch)))
        )[0]
        for warm in (0, 20)
    )
    torch.testing.assert_close(early, share * whole)


def test_the_epoch_reaches_it_through_the_objective() -> None:
    objective = Objective(settings(dkd={"warmup_epochs": 10}).terms)
    teacher = {"logits": logits(1) - logits(1).amax(1, keepdim=True), "row_max": logits(1).amax(1)}
    first = objective({"logits": logits(0)}, LABELS, teacher)["kd"]
    objective.epoch.fill_(4)
    torch.testing.assert_close(objective({"logits": logits(0)}, LABELS, teacher)["kd"], 5 * first)


@pytest.mark.parametrize("method", ["ka-ps+dkd", "ka-lsr+dkd", "dkd+dtd-flsw", "ka-ps+dkd+dtd-cwsm"])
def test_ka_and_dtd_combine_with_it(method: str) -> None:
    student, teacher = logits(0), logits(1)
    row_max = teacher.amax(1)
    values = distillation_loss(settings(method), student, LABELS, teacher - row_max.unsqueeze(1), row_max)
    tau = values["tau"] if "dtd" in method else 4.0
    adjusted = teacher
    if "ka-ps" in method:
        top, own = teacher.argmax(1, keepdim=True), LABELS.unsqueeze(1)
        adjusted = teacher.scatter(1, top, teacher.gather(1, own)).scatter(1, own, teacher.gather(1, top))
    target = Target(adjusted).log_probs(tau)
    if "ka-lsr" in method:
        wrong = (teacher.argmax(1) != LABELS).unsqueeze(1)
        smooth = 0.9 * torch.nn.functional.one_hot(LABELS, 6) + 0.1 / 6
        target = torch.where(wrong, smooth.log(), target)
    own_part, others = dkd_parts(Target(student).log_probs(tau), target, LABELS, tau=tau)
    torch.testing.assert_close(values["kd"], own_part + 8 * others)


def test_the_weight_of_replaced_answers_counts_here_too() -> None:
    student, teacher = logits(0), logits(1)
    row_max = teacher.amax(1)
    labels = teacher.argmax(1)
    labels[:2] = (labels[:2] + 1) % 6
    wrong = teacher.argmax(1) != labels
    assert wrong.any() and not wrong.all()
    plain, weighted = (
        distillation_loss(
            settings("ka-lsr+dkd", ka={"lsr_weight": weight}), student, labels, teacher - row_max.unsqueeze(1), row_max
        )["kd"]
        for weight in (1, "1/tau")
    )
    torch.testing.assert_close(weighted, torch.where(wrong, plain / 4, plain))


def test_auto_weights_are_the_literatures() -> None:
    assert settings().loss_weights == (1.0, 1.0)
    assert settings("ka-ps+dkd").loss_weights == (0.0, 1.0)
    with pytest.raises(ValueError, match="kd and dkd exclude each other; one of them"):
        parse_method("kd+dkd")

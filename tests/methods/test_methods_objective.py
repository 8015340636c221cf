"""The whole loss of every method: against loops, at fixed points, from the store's encoding, and its logged values."""

from dataclasses import replace
from typing import Any

import naive_losses as naive
import pytest
import torch
from naive_losses import Case, distillation_loss
from prepkd.distillation.student_settings import Distill
from prepkd.losses import kl_divergence
from torch import Tensor
from torch.nn import functional as F

# The expected values of the `auto` weights.
CASES = [
    Case("ce", 1.0, 0.0),
    Case("kd", 0.1, 0.9),
    Case("ka-ps", 0.0, 1.0),
    Case("ka-lsr", 0.0, 1.0),
    Case("dtd-flsw", 0.1, 0.9),
    Case("dtd-cwsm", 0.1, 0.9),
    Case("ka-ps+dtd-flsw", 0.0, 1.0),
    Case("ka-ps+dtd-cwsm", 0.0, 1.0),
    Case("ka-lsr+dtd-flsw", 0.0, 1.0),
    Case("ka-lsr+dtd-cwsm", 0.0, 1.0),
]
LSR = [case for case in CASES if "lsr" in case.method]
DTD = [case for case in CASES if "dtd" in case.method]
KA = [case for case in CASES if "ka" in case.method]
TAUGHT = [case for case in CASES if case.method != "ce"]


def name(case: Case) -> str:
    return case.method


def configure(case: Case, **changes: Any) -> Distill:
    """Build settings with the case's values; weights stay `auto` unless changed."""
    values = {
        "teacher": "large",
        "student": "convnet4",
        "epochs": 1,
        "method": case.method,
        "label_smoothing": case.label_smoothing,
        "kd": {"tau": case.tau},
        "ka": {"eps": case.eps, "lsr_weight": "1/tau" if case.lsr_by_tau else 1},
        "dtd": {
            "tau_0": case.tau_0,
            "tau_min": case.tau_min,
            "tau_max": case.tau_max,
            "flsw": {"beta": case.flsw_beta, "gamma": case.flsw_gamma},
            "cwsm": {"beta": case.cwsm_beta},
        },
    }
    return Distill.model_validate(values | changes)


def example(samples: int = 6, classes: int = 7, *, seed: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return student logits, labels, the teacher's offsets and row maxima, float64; the teacher is wrong for some samples."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, samples, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (samples,), generator=generator)
    labels[::3] = teacher.argmax(-1)[::3]
    row_max = teacher.amax(-1)
    return student, labels, teacher - row_max.unsqueeze(-1), row_max


def expected(case: Case, student: Tensor, labels: Tensor, offsets: Tensor, row_max: Tensor) -> Tensor:
    teacher = (offsets + row_max.unsqueeze(-1)).tolist()
    return torch.tensor(naive.objective(case, student.tolist(), teacher, labels.tolist()), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 2), (1, 7), (6, 2), (6, 7), (3, 1000)])
@pytest.mark.parametrize("case", [*CASES, *(replace(case, lsr_by_tau=True, tau=3.0) for case in LSR)], ids=name)
def test_the_loss_is_the_loop(case: Case, shape: tuple[int, int]) -> None:
    batch = example(*shape)
    loss = distillation_loss(configure(case), *batch)["loss"]
    torch.testing.assert_close(loss, expected(case, *batch), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_other_settings_are_the_loops_too(case: Case) -> None:
    case = replace(
        case,
        label_smoothing=0.2,
        tau=2.5,
        eps=0.3,
        tau_0=3.0,
        tau_min=2.0,
        tau_max=5.0,
        flsw_beta=4.0,
        flsw_gamma=2.0,
        cwsm_beta=1.5,
    )
    batch = example(12)
    loss = distillation_loss(configure(case), *batch)["loss"]
    torch.testing.assert_close(loss, expected(case, *batch), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", TAUGHT, ids=name)
def test_ce_weight_overrides(case: Case) -> None:
    batch = example()
    for ce_weight in (0.0, 0.3):
        loss = distillation_loss(configure(case, ce_weight=ce_weight), *batch)["loss"]
        weighted = replace(case, ce_weight=ce_weight, kd_weight=1 - ce_weight)
        torch.testing.assert_close(loss, expected(weighted, *batch), rtol=1e-10, atol=1e-10)
    loss = distillation_loss(configure(case, ce_weight=2.0, kd_weight=0.5), *batch)["loss"]
    torch.testing.assert_close(loss, expected(replace(case, ce_weight=2.0, kd_weight=0.5), *batch))


def test_ce_needs_no_teacher() -> None:
    student, labels, _, _ = example()
    values = distillation_loss(configure(CASES[0], ce_weight=0.5), student, labels, None, None)
    cross_entropy = F.cross_entropy(student, labels, reduction="none")
    assert set(values) == {"loss", "ce"}
    torch.testing.assert_close(values["loss"], 0.5 * cross_entropy)
    torch.testing.assert_close(values["ce"], cross_entropy)


def test_the_field_s_kd_loss() -> None:
    """The objective of `kd` is Hinton's loss in the usual weights: 0.1 CE + 0.9 tau^2 KL."""
    student, labels, offsets, row_max = example()
    raw = offsets + row_max.unsqueeze(-1)
    soft = F.kl_div(F.log_softmax(student / 4, -1), F.softmax(raw / 4, -1), reduction="batchmean") * 16
    values = distillation_loss(configure(CASES[1]), student, labels, offsets, row_max)
    torch.testing.assert_close(values["loss"].mean(), 0.1 * F.cross_entropy(student, labels) + 0.9 * soft)


@pytest.mark.parametrize("case", TAUGHT, ids=name)
def test_a_student_that_is_its_right_teacher_has_nothing_to_learn(case: Case) -> None:
    _, _, offsets, row_max = example()
    student = (offsets + row_max.unsqueeze(-1)).requires_grad_()
    loss = distillation_loss(configure(case, ce_weight=0.0), student, offsets.argmax(-1), offsets, row_max)["loss"]
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert loss.abs().max() < 1e-12 and gradient.abs().max() < 1e-12


@pytest.mark.parametrize("adjusted", ["ka-ps", "ka-lsr"])
@pytest.mark.parametrize("temperature", ["", "dtd-flsw", "dtd-cwsm"])
def test_with_a_right_teacher_an_adjustment_changes_nothing(adjusted: str, temperature: str) -> None:
    student, _, offsets, row_max = example()
    plain = configure(Case(temperature or "kd", 0, 1), ce_weight=0.0)
    changed = configure(Case(f"{adjusted}+{temperature}" if temperature else adjusted, 0, 1))
    batch = student, offsets.argmax(-1), offsets, row_max
    torch.testing.assert_close(
        distillation_loss(changed, *batch)["loss"], distillation_loss(plain, *batch)["loss"], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("case", KA, ids=name)
def test_ka_repairs_only_wrong_samples(case: Case) -> None:
    """If the teacher is right about a sample, its own loss is the same with and without the adjustment."""
    _, labels, offsets, _ = batch = example(12)
    plain = case.method.partition("+")[2] or "kd"
    kd = distillation_loss(configure(case), *batch)["kd"]
    other = distillation_loss(configure(replace(case, method=plain)), *batch)["kd"]
    wrong = torch.tensor([naive.is_wrong(t, y) for t, y in zip(offsets.tolist(), labels.tolist(), strict=True)])
    assert wrong.any() and not wrong.all()
    torch.testing.assert_close(kd[~wrong], other[~wrong])
    assert ((kd - other)[wrong].abs() > 1e-3).all()


@pytest.mark.parametrize("case", CASES, ids=name)
def test_every_value_is_per_sample_and_only_the_loss_has_a_gradient(case: Case) -> None:
    student, *rest = example()
    values = distillation_loss(configure(case), student.requires_grad_(), *rest)
    for key, value in values.items():
        assert value.shape == (6,), key
        assert value.requires_grad == (key == "loss"), key
    assert values["loss"].dtype == torch.float64


# Requirements of the store's encoding


@pytest.mark.parametrize("method", ["ka-ps", "ka-lsr"])
def test_a_gap_that_vanishes_beside_the_row_maximum_is_still_wrong(method: str) -> None:
    """20 - 2^-24 is 20 in float32: as raw logits the teacher would tie, and count as right."""
    offsets, row_max = torch.tensor([[0.0, -(2.0**-24), -9.0]]).half(), torch.tensor([20.0])
    raw = offsets.float() + row_max.unsqueeze(-1)
    assert raw[0, 0] == raw[0, 1], "the case this test is about"
    values = distillation_loss(configure(Case(method, 0, 1)), torch.zeros(1, 3), torch.tensor([1]), offsets, row_max)
    assert values["adjusted"].tolist() == [1.0]


@pytest.mark.parametrize("case", TAUGHT, ids=name)
def test_only_flsw_looks_at_the_row_maximum(case: Case) -> None:
    student, labels, offsets, row_max = example()
    near, far = (distillation_loss(configure(case), student, labels, offsets, row_max + c)["loss"] for c in (0, 9))
    assert torch.equal(near, far) != ("flsw" in case.method)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=name)
def test_half_precision_is_computed_in_float32(case: Case, dtype: torch.dtype) -> None:
    student, labels, offsets, row_max = example()
    student, offsets, row_max = student.to(dtype), offsets.half(), row_max.float()
    values = distillation_loss(configure(case), student, labels, offsets, row_max)
    single = distillation_loss(configure(case), student.float(), labels, offsets.float(), row_max)
    for key, value in values.items():
        assert value.dtype == torch.float32, key
        torch.testing.assert_close(value, single[key], rtol=0, atol=0, equal_nan=True)


def test_a_half_precision_student_gets_a_half_precision_gradient() -> None:
    student, labels, offsets, row_max = example()
    student = student.bfloat16().requires_grad_()
    loss = distillation_loss(configure(CASES[1]), student, labels, offsets.half(), row_max.float())["loss"]
    loss.sum().backward()
    assert loss.dtype == torch.float32 and student.grad is not None and student.grad.dtype == torch.bfloat16


# Gradients


@pytest.mark.parametrize("case", [case for case in CASES if "dtd" not in case.method], ids=name)
def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    student, labels, offsets, row_max = example(4, 5)
    for by_tau in (False, True):
        settings = configure(replace(case, lsr_by_tau=by_tau), ce_weight=0.5)
        assert torch.autograd.gradcheck(
            lambda v, s=settings: distillation_loss(s, v, labels, offsets, row_max)["loss"], student.requires_grad_()
        )


@pytest.mark.parametrize("case", [case for case in DTD if "ka" not in case.method], ids=name)
def test_the_gradient_holds_the_temperature_fixed(case: Case) -> None:
    """w is detached: the gradient is that of kd at the logged tau, not the derivative of the whole loss."""
    student, labels, offsets, row_max = example()
    student.requires_grad_()
    settings = configure(replace(case, flsw_beta=3.0, cwsm_beta=1.0), ce_weight=0.0)
    values = distillation_loss(settings, student, labels, offsets, row_max)
    (gradient,) = torch.autograd.grad(values["loss"].sum(), student)
    fixed = kl_divergence(student, target_logits=offsets, tau=values["tau"])
    (at_fixed_tau,) = torch.autograd.grad(fixed.sum(), student)
    torch.testing.assert_close(gradient, at_fixed_tau)
    assert torch.autograd.gradcheck(lambda v: kl_divergence(v, target_logits=offsets, tau=values["tau"]), student)

    def whole(v: Tensor) -> float:
        return float(distillation_loss(settings, v, labels, offsets, row_max)["loss"].sum())

    with torch.no_grad():
        steps = 1e-6 * torch.eye(student.numel(), dtype=student.dtype).view(-1, *student.shape)
        slopes = torch.tensor([(whole(student + step) - whole(student - step)) / 2e-6 for step in steps])
    moved = (slopes.view_as(gradient) - gradient).abs().max()
    assert moved > 0.01, "tau moves with the logits; its derivative must not be taken"


# Logged values


@pytest.mark.parametrize("case", CASES, ids=name)
def test_what_is_logged(case: Case) -> None:
    logged = {"loss", "ce"}
    if case.method != "ce":
        logged |= {"kd"}
    if "ka" in case.method:
        logged |= {"adjusted"}
    if "lsr" in case.method:
        logged |= {"gradient_adjusted", "gradient_untouched"}
    if "dtd" in case.method:
        logged |= {"tau", "tau_clamped"}
    assert set(distillation_loss(configure(case), *example())) == logged


@pytest.mark.parametrize("by_tau", [False, True])
@pytest.mark.parametrize("case", LSR, ids=name)
def test_the_logged_gradient_norms_are_autograds(case: Case, by_tau: bool) -> None:
    student, labels, offsets, row_max = example(12)
    student.requires_grad_()
    settings = configure(replace(case, lsr_by_tau=by_tau))
    values = distillation_loss(settings, student, labels, offsets, row_max)
    (gradient,) = torch.autograd.grad(values["loss"].sum(), student)  # ce_weight is 0, kd_weight 1
    wrong = values["adjusted"].bool()
    assert wrong.any() and not wrong.all()
    for key, group in (("gradient_adjusted", wrong), ("gradient_untouched", ~wrong)):
        torch.testing.assert_close(values[key][group], gradient.norm(dim=-1)[group])
        assert values[key][~group].isnan().all()


@pytest.mark.parametrize("case", KA, ids=name)
def test_adjusted_is_the_loops_share(case: Case) -> None:
    student, labels, offsets, row_max = example(32)
    wrong = [float(naive.is_wrong(t, y)) for t, y in zip(offsets.tolist(), labels.tolist(), strict=True)]
    assert distillation_loss(configure(case), student, labels, offsets, row_max)["adjusted"].tolist() == wrong


@pytest.mark.parametrize("case", DTD, ids=name)
def test_tau_and_the_share_of_it_that_is_clamped(case: Case) -> None:
    batch = example(32)
    student, _, offsets, row_max = batch
    tight = replace(case, flsw_beta=8.0, cwsm_beta=8.0, tau_min=3.0, tau_max=6.0)
    raw = (offsets + row_max.unsqueeze(-1)).tolist()
    if "flsw" in case.method:
        weights = [naive.flsw(v, t, 1.0) for v, t in zip(student.tolist(), raw, strict=True)]
    else:
        weights = [naive.cwsm(v) for v in student.tolist()]
    free = torch.tensor(naive.temperatures(weights, 4.0, 8.0, -1e9, 1e9), dtype=torch.float64)
    outside = (free < 3) | (free > 6)
    assert (free < 3).any() and (free > 6).any() and not outside.all(), "both ends bite, and not everywhere"
    values = distillation_loss(configure(tight), *batch)
    torch.testing.assert_close(values["tau"], free.clamp(3, 6))
    assert values["tau_clamped"].tolist() == outside.double().tolist()


@pytest.mark.parametrize("case", DTD, ids=name)
def test_a_batch_of_one_has_tau_0(case: Case) -> None:
    values = distillation_loss(configure(case), *example(1))
    assert values["tau"].tolist() == [4.0] and values["tau_clamped"].tolist() == [0.0]


def test_the_papers_lsr_gradient_outweighs_kds_and_one_over_tau_tames_it() -> None:
    """At tau 4 an untempered target under tau^2 has about tau^2 times the gradient of kd: the reason for ka.lsr_weight."""
    batch = example(256, 100)
    plain, tamed = (
        distillation_loss(configure(Case("ka-lsr", 0, 1, lsr_by_tau=by_tau)), *batch) for by_tau in (False, True)
    )
    ratio = plain["gradient_adjusted"].nanmean() / plain["gradient_untouched"].nanmean()
    assert ratio > 3
    torch.testing.assert_close(plain["gradient_adjusted"], 4 * tamed["gradient_adjusted"], equal_nan=True)
    torch.testing.assert_close(plain["gradient_untouched"], tamed["gradient_untouched"], equal_nan=True)

"""Several teachers combined into one: against loops in float64, at fixed points, and through the losses."""

import math

import pytest
import torch
from naive_losses import distillation_loss
from prepkd.distillation.student_settings import Distill
from prepkd.losses import flsw_weights
from prepkd.teacher.ensemble import combine
from torch import Tensor

MODES = ["logits", "probabilities"]


def named(offsets: Tensor, row_max: Tensor) -> dict[str, Tensor]:
    return {"logits": offsets, "row_max": row_max}


def answers(members: int, *, seed: int = 2) -> list[dict[str, Tensor]]:
    """Return each member's offsets and row maxima for 6 samples and 7 classes, float64."""
    generator = torch.Generator().manual_seed(seed)
    raw = 3 * torch.randn(members, 6, 7, generator=generator, dtype=torch.float64)
    return [named(logits - logits.amax(1, keepdim=True), logits.amax(1)) for logits in raw]


def probabilities(row: list[float], tau: float) -> list[float]:
    return [math.exp(z / tau) / sum(math.exp(x / tau) for x in row) for z in row]


@pytest.mark.parametrize("tau", [1.0, 3.0])
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, 0.5, 2.0]])
def test_the_combination_is_the_loop(weights: list[float], tau: float) -> None:
    members = answers(3)
    share = [weight / sum(weights) for weight in weights]
    raw = [(one["logits"] + one["row_max"][:, None]).tolist() for one in members]
    for mode in MODES:
        offsets, row_max = combine(members, mode, weights, tau=tau).values()
        assert offsets.dtype == row_max.dtype == torch.float64
        assert torch.equal(offsets.amax(1), torch.zeros(6, dtype=torch.float64))
        found = offsets + row_max[:, None]
        for i in range(6):
            if mode == "logits":
                expected = [sum(w * member[i][k] for w, member in zip(share, raw, strict=True)) for k in range(7)]
                assert found[i].tolist() == pytest.approx(expected, rel=1e-12)
            else:
                spread = [probabilities(member[i], tau) for member in raw]
                expected = [sum(w * p[k] for w, p in zip(share, spread, strict=True)) for k in range(7)]
                assert torch.softmax(found[i] / tau, 0).tolist() == pytest.approx(expected, rel=1e-12)
                zeros = [tau * math.log(math.fsum(math.exp(z / tau) for z in member[i])) for member in raw]
                zero = math.fsum(w * one for w, one in zip(share, zeros, strict=True))
                assert tau * torch.logsumexp(found[i] / tau, 0).item() == pytest.approx(zero, rel=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_a_teacher_with_itself_is_itself(mode: str) -> None:
    (one,) = answers(1)
    found = combine([one, one, one], mode, [1, 2, 3], tau=2.0)
    for name in ("logits", "row_max"):
        torch.testing.assert_close(found[name], one[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_flsw_of_a_student_that_equals_both_copies_of_its_teacher_is_zero(mode: str) -> None:
    """FLSW depends on the zero of the logits: without the row maxima, a teacher combined with its own copy gave 0.892."""
    (one,) = answers(1)
    raw = one["logits"] + one["row_max"][:, None]
    offsets, row_max = combine([one, one], mode, [1, 1], tau=4.0).values()
    assert flsw_weights(raw, offsets + row_max[:, None], gamma=1.0).max() < 1e-12
    settings = Distill.model_validate({"teacher": "a", "student": "convnet4", "epochs": 1, "method": "dtd-flsw"})
    student, labels = torch.randn_like(raw), torch.arange(6)
    alone, twice = (distillation_loss(settings, student, labels, *pair) for pair in (one.values(), (offsets, row_max)))
    assert alone["tau"].std() > 0.1
    for name in ("loss", "tau"):
        torch.testing.assert_close(twice[name], alone[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_a_shift_of_every_teachers_logits_shifts_the_combination(mode: str) -> None:
    members = answers(3)
    shifted = [one | {"row_max": one["row_max"] + 5} for one in members]
    first, second = (combine(some, mode, [1, 2, 3], tau=4.0) for some in (members, shifted))
    torch.testing.assert_close(second["logits"], first["logits"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(second["row_max"], first["row_max"] + 5, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_order_and_scale_of_the_weights_do_not_matter(mode: str) -> None:
    members = answers(2)
    first = combine(members, mode, [1, 3], tau=4.0)
    for same in (combine(members[::-1], mode, [3, 1], tau=4.0), combine(members, mode, [2, 6], tau=4.0)):
        for one, other in zip(first.values(), same.values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_stored_halves_are_combined_in_float32() -> None:
    halves = [named(one["logits"].half(), one["row_max"].float()) for one in answers(2)]
    assert [part.dtype for part in combine(halves, "probabilities", [1, 1], tau=4.0).values()] == [torch.float32] * 2


@pytest.mark.parametrize("method", ["kd", "ka-ps", "ka-lsr", "dtd-flsw", "ka-ps+dtd-cwsm"])
def test_ka_and_dtd_act_on_the_combined_teacher(method: str) -> None:
    """KA corrects the errors of the combined teacher: two members that are both wrong may be right together."""
    near = torch.tensor([[0.0, 2.0, 3.0], [0.0, 3.0, 2.0]], dtype=torch.float64)  # each wrong about one sample
    far = torch.tensor([[0.0, 6.0, 3.0], [0.0, 3.0, 2.0]], dtype=torch.float64)
    members = [named(raw - raw.amax(1, keepdim=True), raw.amax(1)) for raw in (near, far)]
    labels = torch.tensor([1, 2])
    combined = combine(members, "logits", [1, 1], tau=4.0)
    assert combined["logits"].argmax(1).tolist() == [1, 1], "right about the first sample, wrong about the second"
    settings = Distill.model_validate({"teacher": "a", "student": "convnet4", "epochs": 1, "method": method})
    student = torch.tensor([[0.3, -0.2, 0.1], [1.0, 0.5, -0.5]], dtype=torch.float64)
    values = distillation_loss(settings, student, labels, *combined.values())
    mean = (near + far) / 2
    reference = distillation_loss(settings, student, labels, mean - mean.amax(1, keepdim=True), mean.amax(1))
    torch.testing.assert_close(values["loss"], reference["loss"], rtol=1e-12, atol=1e-12)
    if "ka" in method:
        assert values["adjusted"].tolist() == [0, 1]

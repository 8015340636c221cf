"""Several teachers as one: against loops in float64, at fixed points, and what the losses make of it."""

import math

import pytest
import torch
from naive_losses import distillation_loss
from prepkd.teacher.ensemble import combine
from prepkd.training.student_settings import Distill
from torch import Tensor

MODES = ["logits", "probabilities"]


def named(offsets: Tensor, row_max: Tensor) -> dict[str, Tensor]:
    return {"logits": offsets, "row_max": row_max}


def answers(members: int, *, seed: int = 2) -> list[dict[str, Tensor]]:
    """Each member's offsets and row maxima of 6 samples, 7 classes, float64."""
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
                assert torch.exp(found[i] / tau).sum().item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_a_teacher_with_itself_is_itself(mode: str) -> None:
    (one,) = answers(1)
    offsets, _ = combine([one, one, one], mode, [1, 2, 3], tau=2.0).values()
    torch.testing.assert_close(offsets, one["logits"], rtol=1e-12, atol=1e-12)


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
    """Two wrong members may be right together: what is corrected is the combination's error."""
    near = torch.tensor([[0.0, 2.0, 3.0], [0.0, 3.0, 2.0]], dtype=torch.float64)  # each wrong in one place
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

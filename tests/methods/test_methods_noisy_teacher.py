"""Noisy teachers: the noise's distribution, the inputs it depends on, and its path to the divergence."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from divergences import LABELS, logits
from naive_losses import distillation_loss
from prepkd.distillation.student_settings import Distill
from prepkd.losses import noisy_logits, probability_shift
from prepkd.methods import noisy_teacher
from prepkd.methods.noisy_teacher import NoisyTeacher
from prepkd.methods.objective import Objective
from prepkd.runtime.streams import DrawContext, Purpose, bernoulli, normal, raw_words
from torch import Tensor


def settings(method: str, **changes: Any) -> Distill:
    return Distill.model_validate({"teacher": "t", "student": "convnet4", "epochs": 1, "method": method} | changes)


def noise(seed: int = 3, epoch: int = 0, samples: int = 4000, classes: int = 10, **changes: float) -> Any:
    return NoisyTeacher(**changes).draw(DrawContext(seed, epoch, samples, classes))["answer_noise"]


def answers(teacher: Tensor, drawn: Any = None) -> dict[str, Tensor]:
    row_max = teacher.amax(1)
    stored = {"logits": teacher - row_max.unsqueeze(1), "row_max": row_max}
    return stored if drawn is None else stored | {"answer_noise": torch.from_numpy(np.asarray(drawn))}


def loss(method: str, teacher: Tensor, drawn: Any = None, **changes: Any) -> dict[str, Tensor]:
    objective = Objective(settings(method, **changes).terms)
    values: dict[str, Tensor] = objective({"logits": logits(0)}, LABELS, answers(teacher, drawn))
    return values


# The draws


def test_quantiles_are_a_normal_distributions() -> None:
    every = normal(np.arange(2**16, dtype=np.uint64).reshape(-1, 1))[:, 0].astype(np.float64)  # all lowest 16 bits
    assert every.sum() == 0 and (np.diff(every) > 0).all() and every[-1] < 4.4
    assert every.var() == pytest.approx(1, abs=2e-4)
    for z, below in ((-2.0, 0.022750), (-1.0, 0.158655), (0.5, 0.691462)):
        assert (every < z).mean() == pytest.approx(below, abs=1e-4)
    word = np.array([0x0001_0002_FFFF_8000], dtype=np.uint64)
    assert normal(word).tolist() == every.astype(np.float32)[[0x8000, 0xFFFF, 0x0002, 0x0001]].tolist()
    assert not bernoulli(np.array([0], dtype=np.uint64), 0.0) and bernoulli(np.array([2**64 - 1], dtype=np.uint64), 1.0)


def test_a_share_of_the_rows_has_noise_of_sigma() -> None:
    sigma, share = 0.4, 0.3
    found = noise(sigma=sigma, share=share).astype(np.float64)
    chosen = (found != 0).any(1)
    assert abs(chosen.mean() - share) < 5 * math.sqrt(share * (1 - share) / len(found)), (
        "a coin per sample, not per batch"
    )
    values = found[chosen]
    assert abs(values.mean()) < 5 * sigma / math.sqrt(values.size)
    assert abs(values.std() / sigma - 1) < 5 / math.sqrt(2 * values.size)
    correlation = np.corrcoef(values.T) - np.eye(10)
    assert np.abs(correlation).max() < 5 / math.sqrt(len(values)), "each class has its own"


def test_the_noise_is_a_function_of_seed_epoch_sample_and_class(monkeypatch: pytest.MonkeyPatch) -> None:
    found = noise()
    monkeypatch.setattr(noisy_teacher, "ROWS", 7)
    # Neither the number of samples nor how many are drawn at once changes it.
    assert np.array_equal(noise(samples=100), found[:100])
    for other in (noise(seed=4), noise(epoch=1)):
        assert (other[found != 0] != found[found != 0]).mean() > 0.9
    # Per sample one word decides, and three words hold the noise of four classes each, for ten classes.
    words = raw_words(3, Purpose.NOISY_ANSWERS.stream(0), 5 * 4, 4)
    expected = 0.1 * normal(words[1:])[:10] if (int(words[0]) >> 32) < 2**31 else np.zeros(10)
    assert np.array_equal(found[5], expected.astype(np.float16))


# The perturbation


def test_without_noise_it_is_the_method_without_it() -> None:
    teacher = logits(1)
    for method in ("kd", "ka-ps", "ka-lsr+dtd-flsw", "dkd"):
        noisy = method if method != "kd" else ""
        quiet = loss("+".join(filter(None, ("noisy-teacher", noisy))), teacher, np.zeros((5, 6), np.float16))
        for key, value in loss(method, teacher).items():
            torch.testing.assert_close(quiet[key], value, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert not noise(sigma=0.0).any() and not noise(share=0.0).any()


def test_an_answer_without_noise_keeps_gaps_that_vanish_beside_its_maximum() -> None:
    """20 - 2^-24 is 20 in float32; whether the teacher is right must not depend on another sample's noise."""
    stored = {"logits": torch.tensor([[0.0, -(2.0**-24), -9.0]]).half(), "row_max": torch.tensor([20.0])}
    drawn = {"answer_noise": torch.zeros(1, 3, dtype=torch.float16)}
    objective = Objective(settings("noisy-teacher+ka-ps").terms)
    values = objective({"logits": torch.zeros(1, 3)}, torch.tensor([1]), stored | drawn)
    assert values["adjusted"].tolist() == [1.0]


@pytest.mark.parametrize("method", ["", "ka-ps", "ka-lsr", "dkd", "dtd-flsw", "ka-ps+dtd-flsw"])
def test_the_noise_comes_first(method: str) -> None:
    """The other terms see noisy answers only: KA repairs the label after a swap, and FLSW weighs the noisy answer."""
    teacher, drawn = logits(1), noise(samples=5, classes=6, sigma=0.9, share=1.0)
    by_hand = [
        [t * (1 + float(x)) for t, x in zip(row, xi, strict=True)]
        for row, xi in zip(teacher.tolist(), drawn.tolist(), strict=True)
    ]
    noisy = loss("+".join(filter(None, ("noisy-teacher", method))), teacher, drawn)
    expected = loss(method or "kd", torch.tensor(by_hand, dtype=torch.float64))
    for key, value in expected.items():
        torch.testing.assert_close(noisy[key], value, rtol=1e-9, atol=1e-9, equal_nan=True)
    torch.testing.assert_close(noisy_logits(teacher, torch.from_numpy(drawn)), torch.tensor(by_hand).double())


def test_the_expected_answer_is_the_teachers_and_depends_on_the_shift() -> None:
    teacher = logits(1)
    drawn = torch.from_numpy(noise(samples=5, classes=6, share=1.0))
    both = (noisy_logits(teacher, drawn) + noisy_logits(teacher, -drawn)) / 2
    torch.testing.assert_close(both, teacher)
    shifted = noisy_logits(teacher + 9, drawn) - 9
    assert float((shifted - noisy_logits(teacher, drawn)).abs().max()) > 0.1, (
        "hence raw logits: the row's maximum is added"
    )
    assert settings("noisy-teacher").terms.needs_raw


def test_rows_are_perturbed_by_their_own_noise_in_any_order() -> None:
    teacher, drawn = logits(1), noise(samples=5, classes=6, share=1.0)
    order = torch.tensor([3, 0, 4, 1, 2])
    objective = Objective(settings("noisy-teacher").terms)
    stored = answers(teacher, drawn)
    plain = objective({"logits": logits(0)}, LABELS, stored)["loss"]
    shuffled = objective(
        {"logits": logits(0)[order]}, LABELS[order], {name: values[order] for name, values in stored.items()}
    )["loss"]
    torch.testing.assert_close(shuffled, plain[order])


def test_extreme_answers_and_half_precision_stay_finite() -> None:
    student = torch.zeros(2, 4, dtype=torch.bfloat16, requires_grad=True)
    stored = {
        "logits": torch.tensor([[0.0, -8000.0, -1.0, -2.0], [0.0] * 4]).half(),
        "row_max": torch.tensor([8000.0, 0]),
    }
    drawn = {"answer_noise": torch.tensor([[0.5, -2.0, 0.1, 0.0], [0.3] * 4]).half()}
    objective = Objective(settings("noisy-teacher+ka-ps+dtd-flsw").terms)
    values = objective({"logits": student}, torch.tensor([1, 2]), stored | drawn)
    values["loss"].sum().backward()
    assert values["loss"].dtype == torch.float32 and values["loss"].isfinite().all()
    assert student.grad is not None and student.grad.isfinite().all()


def test_swap_after_noise() -> None:
    teacher, drawn = logits(1), noise(samples=5, classes=6, sigma=0.9, share=1.0)
    noisy = noisy_logits(teacher, torch.from_numpy(drawn))
    expected = distillation_loss(
        settings("kd", ce_weight=0.0), logits(0), LABELS, probability_shift(noisy, LABELS), torch.zeros(5).double()
    )
    torch.testing.assert_close(loss("noisy-teacher+ka-ps", teacher, drawn)["kd"], expected["kd"])

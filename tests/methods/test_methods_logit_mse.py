"""Logit regression: against loops in float64, its one fixed point, its relation to KD and to Pearson's correlation."""

import pytest
import torch
from divergences import LABELS, gradient, logits, of_objective
from prepkd.losses import kl_divergence, logit_mse


def test_it_is_the_loop() -> None:
    student, teacher = logits(0), logits(1)
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    expected = [sum((a - b) ** 2 for a, b in zip(v, t, strict=True)) / 6 for v, t in rows]
    assert logit_mse(student, teacher).tolist() == pytest.approx(expected, rel=1e-12)


def test_it_is_zero_for_equal_logits_and_not_for_equal_probabilities() -> None:
    student = logits(0).requires_grad_()
    loss = logit_mse(student, logits(0))
    assert loss.abs().max() == 0 and gradient(loss, student).abs().max() == 0
    torch.testing.assert_close(logit_mse(logits(0) + 2, logits(0)), torch.full((5,), 4.0).double())


def test_the_stores_offsets_get_their_maximum_back() -> None:
    """The objective adds the row maximum back, since differences to the offsets z - max z are not those to raw logits."""
    student, teacher = logits(0), logits(1)
    offsets = teacher - teacher.amax(1, keepdim=True)
    assert (logit_mse(student, offsets) - logit_mse(student, teacher)).abs().min() > 0.1
    torch.testing.assert_close(of_objective("logit-mse", student, teacher)["kd"], logit_mse(student, teacher))


def test_it_is_twice_the_limit_of_kd_at_high_temperature_on_centred_logits() -> None:
    student, teacher = (values - values.mean(1, keepdim=True) for values in (logits(0), logits(1)))
    limit = kl_divergence(student, target_logits=teacher, tau=1e4)
    torch.testing.assert_close(2 * limit, logit_mse(student, teacher), rtol=1e-3, atol=0)


def test_no_temperature_changes_it() -> None:
    """Code that divides both sides by tau without multiplying back is weaker by a factor of tau^2."""
    student, teacher = logits(0), logits(1)
    found = (of_objective("logit-mse", student, teacher, LABELS, kd={"tau": tau})["kd"] for tau in (1.0, 20.0))
    assert torch.equal(*found)

"""The losses of labels alone, `lsr` and `disturb-label`: loops in float64, the draws' frequencies, and refusals."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from divergences import LABELS, logits
from naive_losses import distillation_loss, smoothed_cross_entropy
from prepkd.data.samples.labels import mixture
from prepkd.distillation.student_settings import Distill
from prepkd.losses import cross_entropy, disturbed_labels, kl_divergence
from prepkd.methods.disturbed_labels import KEPT, DisturbedLabels
from prepkd.methods.grammar import parse_method
from prepkd.methods.objective import Objective
from prepkd.runtime.streams import DrawContext, Purpose, raw_words
from torch.nn import functional as F


def settings(method: str, **changes: Any) -> Distill:
    return Distill.model_validate({"teacher": "t", "student": "convnet4", "epochs": 1, "method": method} | changes)


# Label smoothing


@pytest.mark.parametrize("eps", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(1, 2), (5, 6), (3, 1000)])
def test_lsr_is_the_loop(shape: tuple[int, int], eps: float) -> None:
    student, labels = logits(0, *shape), torch.arange(shape[0]) % shape[1]
    expected = [smoothed_cross_entropy(row, y, eps) for row, y in zip(student.tolist(), labels.tolist(), strict=True)]
    values = distillation_loss(settings("lsr", lsr={"eps": eps}), student, labels, None, None)
    assert values["loss"].tolist() == pytest.approx(expected, rel=1e-12)
    assert set(values) == {"loss", "ce"}


def test_without_eps_it_is_ce_and_its_minimum_is_the_targets_entropy() -> None:
    student = logits(0)
    torch.testing.assert_close(cross_entropy(student, LABELS), F.cross_entropy(student, LABELS, reduction="none"))
    target = 0.9 * F.one_hot(LABELS, 6).double() + 0.1 / 6
    best = target.log().requires_grad_()
    loss = cross_entropy(best + 3.0, LABELS, eps=0.1)  # a row's shift does not matter
    torch.testing.assert_close(loss.detach(), torch.special.entr(target).sum(1))
    loss.sum().backward()
    assert best.grad is not None and float(best.grad.abs().max()) < 1e-12 and float(loss.detach().min()) > 0.3


def test_lsr_spreads_eps_over_all_classes() -> None:
    """The other convention, 1 - a at the label and a / (K - 1) elsewhere, is the same at eps = a K / (K - 1)."""
    student, a = logits(0), 0.1
    other = torch.full((5, 6), a / 5, dtype=torch.float64).scatter(1, LABELS.unsqueeze(1), 1 - a)
    expected = -(other * torch.log_softmax(student, 1)).sum(1)
    torch.testing.assert_close(cross_entropy(student, LABELS, eps=a * 6 / 5), expected)
    assert float((cross_entropy(student, LABELS, eps=a) - expected).abs().min()) > 1e-4


@pytest.mark.parametrize("method", ["lsr", "disturb-label", "tf-kd-virtual"])
@pytest.mark.parametrize("at", [-8000.0, 8000.0])
def test_extreme_logits_and_bf16_have_finite_gradients(method: str, at: float) -> None:
    student = torch.zeros(1, 5, dtype=torch.bfloat16)
    student[0, 2] = at
    student.requires_grad_()
    drawn = {"disturbed_label": torch.tensor([KEPT])} if method == "disturb-label" else {}
    loss = Objective(settings(method).terms)({"logits": student}, torch.tensor([2]), drawn)["loss"]
    loss.sum().backward()
    assert loss.dtype == torch.float32 and loss.isfinite().all()
    assert student.grad is not None and student.grad.isfinite().all()


@pytest.mark.parametrize("method", ["lsr", "tf-kd-virtual"])
def test_mixed_labels_that_are_whole_are_labels(method: str) -> None:
    student, shares = logits(0), mixture(LABELS, LABELS.flip(0), torch.ones(5), 6)
    whole, mixed = (distillation_loss(settings(method), student, y, None, None)["loss"] for y in (LABELS, shares))
    torch.testing.assert_close(mixed, whole, rtol=1e-6, atol=0)


# Disturbed labels


def draw(alpha: float, *, seed: int = 3, epoch: int = 0, samples: int = 20_000, classes: int = 10) -> Any:
    return DisturbedLabels(alpha=alpha).draw(DrawContext(seed, epoch, samples, classes))["disturbed_label"]


def test_a_label_is_replaced_with_probability_alpha_by_any_class() -> None:
    """P(keep) = 1 - a (K - 1) / K: the label itself is among the classes that are drawn."""
    alpha, classes = 0.3, 10
    found = draw(alpha)
    labels = torch.zeros(len(found), dtype=torch.int64)
    counts = torch.bincount(disturbed_labels(labels, torch.from_numpy(found)), minlength=classes) / len(found)
    for k, share in enumerate(counts.tolist()):
        wanted = 1 - alpha * (classes - 1) / classes if k == 0 else alpha / classes
        assert abs(share - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / len(found)), k
    assert (draw(0.0) == KEPT).all() and (draw(1.0) != KEPT).all()


def test_the_expected_loss_is_lsrs() -> None:
    """Average the loss over every outcome of the draw, weighted by its probability."""
    student, alpha = logits(0), 0.3
    each = torch.stack([cross_entropy(student, disturbed_labels(LABELS, torch.full((5,), k))) for k in range(6)])
    expected = (1 - alpha) * cross_entropy(student, LABELS) + alpha * each.mean(0)
    torch.testing.assert_close(expected, cross_entropy(student, LABELS, eps=alpha))


def test_a_draw_is_a_function_of_seed_epoch_and_sample() -> None:
    found = draw(0.5)
    assert np.array_equal(draw(0.5, samples=500), found[:500]), "the number of samples does not matter"
    for other in (draw(0.5, seed=4), draw(0.5, epoch=1)):
        assert (other != found).mean() > 0.3
    words = raw_words(3, Purpose.DISTURBED_LABELS.stream(0), 2 * 17, 2).tolist()
    expected = ((words[1] >> 32) * 10) >> 32 if (words[0] >> 32) < 2**31 else KEPT
    assert found[17] == expected


def test_labels_stay_as_they_were_outside_the_loss() -> None:
    """Public code disturbs the batch's labels in place and then measures accuracy on disturbed labels."""
    labels, replacements = LABELS.clone(), torch.tensor([3, KEPT, KEPT, 0, 4])
    assert disturbed_labels(labels, replacements).tolist() == [3, 5, 2, 0, 4] and torch.equal(labels, LABELS)
    shares = mixture(LABELS, LABELS.flip(0), torch.full((5,), 0.75), 6)
    mixed = disturbed_labels(shares, replacements)
    assert torch.equal(mixed[1:3], shares[1:3]) and torch.equal(mixed[0], F.one_hot(torch.tensor(3), 6).float())


def test_the_objective_reads_its_draw_and_knowledge_adjustment_the_true_label() -> None:
    student, teacher = logits(0), logits(1)
    row_max = teacher.amax(1)
    answers = {"logits": teacher - row_max.unsqueeze(1), "row_max": row_max}
    drawn = {"disturbed_label": torch.tensor([3, KEPT, KEPT, 0, 4])}
    objective = Objective(settings("disturb-label+ka-ps", ce_weight=0.5).terms)
    values = objective({"logits": student}, LABELS, answers | drawn)
    torch.testing.assert_close(values["ce"], cross_entropy(student, torch.tensor([3, 5, 2, 0, 4])))
    plain = Objective(settings("ka-ps").terms)({"logits": student}, LABELS, answers)
    for key in ("kd", "adjusted"):
        torch.testing.assert_close(values[key], plain[key])
    torch.testing.assert_close(values["loss"], 0.5 * values["ce"] + 0.5 * values["kd"])


# The grammar and the settings


@pytest.mark.parametrize("method", ["lsr+kd", "lsr+dtd-flsw", "lsr+dkd", "lsr+noisy-teacher"])
def test_lsr_takes_the_place_of_the_cross_entropy(method: str) -> None:
    student, teacher = logits(0), logits(1)
    answers = {"logits": teacher - teacher.amax(1, keepdim=True), "row_max": teacher.amax(1)}
    answers |= {"answer_noise": torch.zeros(5, 6)} if "noisy" in method else {}
    values = Objective(settings(method).terms)({"logits": student}, LABELS, answers)
    other = Objective(settings(method.removeprefix("lsr+")).terms)({"logits": student}, LABELS, answers)
    torch.testing.assert_close(values["ce"], cross_entropy(student, LABELS, eps=0.1))
    torch.testing.assert_close(values["kd"], other["kd"])
    assert settings(method).loss_weights == settings(method.removeprefix("lsr+")).loss_weights


def test_weights_and_what_is_refused() -> None:
    for method in ("lsr", "disturb-label", "tf-kd-virtual"):
        chosen = settings(method)
        assert chosen.loss_weights == (1.0, 0.0) and not parse_method(method).needs_teacher
        assert {"teacher", "source"} <= chosen.unused
        with pytest.raises(
            ValueError, match=f"label_smoothing is 0.1 and method {method} has a loss .*; expected label_smoothing 0"
        ):
            settings(method, label_smoothing=0.1)
    for changes in ({"method": "lsr+ka-ps"}, {"method": "disturb-label+kd", "ce_weight": 0.0}):
        with pytest.raises(ValueError, match=r"ce_weight is 0.*, with which [a-z-]+ has no effect; set ce_weight > 0"):
            settings(**changes)
    for text, words in (
        ("lsr+disturb-label", "lsr and disturb-label exclude each other; one of them"),
        ("ce+lsr", "'ce' is training without a teacher"),
    ):
        with pytest.raises(ValueError, match=words):
            parse_method(text)


def test_a_smoothed_label_is_not_a_smoothed_answer() -> None:
    """ka-lsr replaces wrong answers only; lsr applies to every sample and needs no teacher."""
    student, teacher = logits(0), logits(1)
    target = 0.9 * F.one_hot(LABELS, 6).double() + 0.1 / 6
    difference = cross_entropy(student, LABELS, eps=0.1) - kl_divergence(student, target_probs=target, tau=1.0)
    torch.testing.assert_close(difference, torch.special.entr(target).sum(1))
    row_max = teacher.amax(1)
    answers = teacher - row_max.unsqueeze(1), row_max
    assert "adjusted" in distillation_loss(settings("ka-lsr"), student, LABELS, *answers)
    assert "adjusted" not in distillation_loss(settings("lsr"), student, LABELS, None, None)

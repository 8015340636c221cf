"""Every metric against loops in float64, with edge cases."""

import math
from statistics import fmean

import pytest
import torch
from prepkd.report.metrics import against_teacher, measure, over_seeds
from torch import Tensor


def drawn(count: int, classes: int, scale: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    logits = scale * torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), labels] += scale
    return logits, labels


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(z - max(row)) for z in row]
    return [power / sum(powers) for power in powers]


def naive(logits: Tensor, labels: Tensor) -> dict[str, float]:
    rows = logits.double().tolist()
    top1, top5, nll = [], [], []
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for row, label in zip(rows, labels.tolist(), strict=True):
        ranked = sorted(range(len(row)), key=lambda k: -row[k])
        top1.append(ranked[0] == label)
        top5.append(label in ranked[:5])
        probabilities = softmax(row)
        nll.append(math.log(sum(math.exp(z - row[label]) for z in row)))
        confidence = probabilities[ranked[0]]
        bins[min(int(confidence * 15), 14)].append((confidence, ranked[0] == label))
    gaps = [len(b) / len(rows) * abs(fmean(c for c, _ in b) - fmean(r for _, r in b)) for b in bins if b]
    return {"top1": fmean(top1), "top5": fmean(top5), "nll": fmean(nll), "ece": sum(gaps)}


@pytest.mark.parametrize("scale", [0.3, 2.0, 30.0], ids=["unsure", "middling", "saturated"])
@pytest.mark.parametrize("classes", [2, 3, 5, 10, 100])
def test_figures_are_those_of_loops(classes: int, scale: float) -> None:
    logits, labels = drawn(300, classes, scale)
    assert measure(logits, labels) == pytest.approx(naive(logits, labels), rel=1e-5, abs=1e-6)


def test_a_confidence_of_exactly_one_is_in_the_last_bin() -> None:
    """Samples at 0.95 (four, all right) and at 1 (four, one wrong) share a bin, so their calibration errors partly cancel."""
    logits = torch.tensor([[math.log(19), 0.0]] * 4 + [[200.0, 0.0]] * 4)
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1])
    assert measure(logits, labels)["ece"] == pytest.approx((0.95 + 1) / 2 - 7 / 8, abs=1e-6)


def test_accuracy_is_decided_on_logits_that_softmax_cannot_tell_apart() -> None:
    logits = torch.tensor([[0.0, 1e-9], [-200.0, 0.0]])
    assert torch.equal(logits.softmax(-1)[0], torch.tensor([0.5, 0.5]))
    assert measure(logits, torch.tensor([1, 1]))["top1"] == 1


def test_fewer_than_five_classes_are_all_in_the_top_five() -> None:
    logits, labels = drawn(50, 4, 1.0)
    assert measure(logits, labels)["top5"] == 1
    assert measure(logits, labels)["top1"] < 1


def test_agreement_and_genetic_errors() -> None:
    student, labels = drawn(400, 5, 1.0, seed=1)
    teacher, _ = drawn(400, 5, 1.0, seed=1)
    teacher += torch.randn(400, 5, generator=torch.Generator().manual_seed(3))
    agree = genetic = 0
    for ours, theirs, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        a, b = ours.index(max(ours)), theirs.index(max(theirs))
        agree += a == b
        genetic += a == b and a != label
    assert 0 < genetic < agree < 400
    assert against_teacher(student, teacher, labels) == pytest.approx(
        {"agreement": agree / 400, "genetic_errors": genetic / 400}
    )


def test_different_wrong_answers_are_no_genetic_error() -> None:
    student, teacher = torch.eye(3)[[0, 1, 2, 2]], torch.eye(3)[[1, 1, 2, 1]]
    #                        teacher only, both alike, both right, student only
    assert against_teacher(student, teacher, torch.tensor([2, 0, 2, 1])) == {"agreement": 0.5, "genetic_errors": 0.25}


def test_over_seeds() -> None:
    assert over_seeds([{"top1": 0.5}]) == {"n": 1, "top1": {"mean": 0.5, "std": None}}
    report = over_seeds([{"top1": 1.0, "nll": 3.0}, {"top1": 2.0, "nll": 3.0}, {"top1": 6.0, "nll": 3.0}])
    assert report["n"] == 3
    assert report["top1"] == {"mean": 3.0, "std": pytest.approx(math.sqrt((4 + 1 + 9) / 2))}
    assert report["nll"] == {"mean": 3.0, "std": 0.0}

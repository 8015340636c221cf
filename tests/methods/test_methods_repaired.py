"""Repaired answers that are probabilities, in each divergence that accepts them: by hand, the same at every temperature."""

import math
from collections.abc import Sequence

import pytest
import torch
from divergences import kl_of, log_rest, logits, of_objective
from naive_losses import Row, is_wrong, log_softmax, smooth, softmax
from prepkd.methods.term import Divergence
from prepkd.methods.terms import TERMS

TAU, ETA, EPS = 4.0, 0.8, 0.1
STUDENT, TEACHER = logits(0, 6, 10), logits(1, 6, 10)
LABELS = TEACHER.argmax(1)
LABELS[:4] = (LABELS[:4] + torch.tensor([1, 2, 5, 9])) % 10  # wrong four times


def repaired(adjustment: str, row: Row, label: int) -> list[float]:
    """Return the probabilities that replace a wrong answer."""
    if adjustment == "ka-lsr":
        return smooth(len(row), label, EPS)
    p = softmax(row, 1.0)
    b = ETA / (max(p) - p[label] + 1)
    return [b * one + (1 - b) * (k == label) for k, one in enumerate(p)]


def answer(adjustment: str, row: Row, label: int, tau: float) -> list[float]:
    """Return the teacher's probabilities at `tau`, or for a wrong answer the repaired probabilities, which ignore `tau`."""
    return repaired(adjustment, row, label) if is_wrong(row, label) else softmax(row, tau)


def kd(v: Row, at_one: Row, at_tau: Row, label: int) -> float:
    return TAU**2 * kl_of([math.log(p) for p in at_tau], log_softmax(v, TAU))


def dkd(v: Row, at_one: Row, at_tau: Row, label: int) -> float:
    own = at_tau[label]
    log_own, rest = log_softmax(v, TAU)[label], log_rest(v, label, TAU)
    target = own * (math.log(own) - log_own) + (1 - own) * (math.log(1 - own) - rest)
    others = [k for k in range(len(v)) if k != label]
    q = [math.log(at_tau[k] / (1 - own)) for k in others]
    return TAU**2 * (target + 8 * kl_of(q, log_softmax([v[k] for k in others], TAU)))


def nkd(v: Row, at_one: Row, at_tau: Row, label: int) -> float:
    others = [k for k in range(len(v)) if k != label]
    log_q = log_softmax([v[k] for k in others], TAU)
    part = math.fsum(at_tau[k] / (1 - at_tau[label]) * q for k, q in zip(others, log_q, strict=True))
    return -at_one[label] * log_softmax(v, 1.0)[label] - 1.5 * TAU**2 * part


def wttm(v: Row, at_one: Row, at_tau: Row, label: int) -> float:
    """U is the sum of the powers 1 / tau of the distribution whose normalised power is the answer, repaired or not."""
    powers = [p**TAU for p in at_tau]
    weight = math.fsum((p / math.fsum(powers)) ** (1 / TAU) for p in powers)
    return weight * kl_of([math.log(p) for p in at_tau], log_softmax(v, 1.0))


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    ma, mb = math.fsum(a) / len(a), math.fsum(b) / len(b)
    product = math.fsum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True))
    return product / math.dist(a, [ma] * len(a)) / math.dist(b, [mb] * len(b))


def dist(rows: Sequence[Row], at_tau: Sequence[Row]) -> float:
    """Return the batch's mean loss."""
    probs = [softmax(row, TAU) for row in rows]
    by_row = [correlation(p, t) for p, t in zip(probs, at_tau, strict=True)]
    by_class = [correlation(p, t) for p, t in zip(zip(*probs, strict=True), zip(*at_tau, strict=True), strict=True)]
    return TAU**2 * sum(1 - math.fsum(rho) / len(rho) for rho in (by_row, by_class))


BY_HAND = {"kd": kd, "dkd": dkd, "nkd": nkd, "wttm": wttm}


def test_all_of_them_are_here() -> None:
    takers = {name for name, term in TERMS.items() if issubclass(term, Divergence) and term.takes_probs}
    assert takers == {*BY_HAND, "dist"}


@pytest.mark.parametrize("adjustment", ["ka-lsr", "label-revision"])
@pytest.mark.parametrize("name", [*BY_HAND, "dist"])
def test_a_repaired_answer_is_itself_at_every_temperature_and_right_ones_are_the_teachers(
    name: str, adjustment: str
) -> None:
    method = adjustment if name == "kd" else f"{adjustment}+{name}"
    found = of_objective(method, STUDENT, TEACHER, LABELS)["kd"].tolist()
    rows = list(zip(STUDENT.tolist(), TEACHER.tolist(), LABELS.tolist(), strict=True))
    at_one, at_tau = ([answer(adjustment, t, y, tau) for _, t, y in rows] for tau in (1.0, TAU))
    assert sum(is_wrong(t, y) for _, t, y in rows) == 4
    if name == "dist":
        assert math.fsum(found) / len(found) == pytest.approx(dist([v for v, _, _ in rows], at_tau), rel=1e-9)
        return
    expected = [
        BY_HAND[name](v, one, tempered, y) for (v, _, y), one, tempered in zip(rows, at_one, at_tau, strict=True)
    ]
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_label_keeps_its_share_in_nkd() -> None:
    """With K = 10, label smoothing gives the label 0.91; the fourth power, normalised, would give it 1.000."""
    found = of_objective("ka-lsr+nkd", STUDENT, TEACHER, LABELS, nkd={"gamma": 0.0})["kd"]
    log_p = torch.log_softmax(STUDENT, 1).gather(1, LABELS.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close((-found / log_p)[:4], torch.full((4,), 0.91).double())


@pytest.mark.parametrize("tau", [1.0, 2.0, 5.0])
def test_a_repaired_answer_weighs_like_a_sure_teachers_in_wttm(tau: float) -> None:
    """With a smoothed label of 100 classes U is near 1; 100^(1 - 1 / tau) is the U of a uniform teacher."""
    student, teacher = logits(0, 4, 100), logits(1, 4, 100)
    labels = (teacher.argmax(1) + 1) % 100  # wrong in all rows
    found = of_objective("ka-lsr+wttm", student, teacher, labels, kd={"tau": tau})["kd"]
    target = [smooth(100, label, EPS) for label in labels.tolist()]
    kl = [kl_of([math.log(p) for p in q], log_softmax(v, 1.0)) for q, v in zip(target, student.tolist(), strict=True)]
    expected = {1.0: 1.0, 2.0: 1.1098, 5.0: 1.1099}[tau]
    assert [a / b for a, b in zip(found.tolist(), kl, strict=True)] == pytest.approx([expected] * 4, abs=2e-4)
    assert expected == pytest.approx(math.fsum(p**tau for p in target[0]) ** (-1 / tau), abs=2e-4)


@pytest.mark.parametrize("adjustment", ["ka-lsr", "label-revision"])
@pytest.mark.parametrize("name", ["nkd", "wttm"])
def test_each_samples_temperature_leaves_a_repaired_answer(name: str, adjustment: str) -> None:
    """dtd with beta 0 gives every sample the same temperature, and must equal the fixed temperature."""
    plain = of_objective(f"{adjustment}+{name}", STUDENT, TEACHER, LABELS)["kd"]
    dynamic = {"dtd": {"tau_0": TAU, "flsw": {"beta": 0.0}}}
    found = of_objective(f"{adjustment}+{name}+dtd-flsw", STUDENT, TEACHER, LABELS, **dynamic)["kd"]
    torch.testing.assert_close(found, plain)

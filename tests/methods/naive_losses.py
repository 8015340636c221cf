"""A second implementation of the losses in float64, with Python loops that follow the equations: slow, easy to check by eye."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prepkd.distillation.student_settings import Distill
from prepkd.methods.objective import Objective
from torch import Tensor

Row = Sequence[float]


def log_softmax(row: Row, tau: float) -> list[float]:
    top = max(row)
    total = math.fsum(math.exp((z - top) / tau) for z in row)
    return [(z - top) / tau - math.log(total) for z in row]


def softmax(row: Row, tau: float) -> list[float]:
    return [math.exp(log_p) for log_p in log_softmax(row, tau)]


def kl(student: Row, target: Row, tau: float) -> float:
    """tau^2 sum_k p_k log(p_k / q_k), with 0 log 0 = 0; `target` are probabilities."""
    log_q = log_softmax(student, tau)
    return tau**2 * math.fsum(p * (math.log(p) - lq) for p, lq in zip(target, log_q, strict=True) if p > 0)


def smoothed_cross_entropy(student: Row, label: int, eps: float) -> float:
    log_q = log_softmax(student, 1.0)
    target = smooth(len(student), label, eps)
    return -math.fsum(p * lq for p, lq in zip(target, log_q, strict=True))


def is_wrong(teacher: Row, label: int) -> bool:
    return any(z > teacher[label] for z in teacher)


def shift(teacher: Row, label: int) -> list[float]:
    row = list(teacher)
    if is_wrong(row, label):
        top = row.index(max(row))
        row[top], row[label] = row[label], row[top]
    return row


def smooth(classes: int, label: int, eps: float) -> list[float]:
    return [eps / classes + (1 - eps if k == label else 0.0) for k in range(classes)]


def flsw(student: Row, teacher: Row, gamma: float) -> float:
    dot = math.fsum(v * t for v, t in zip(student, teacher, strict=True))
    norms = math.sqrt(math.fsum(v * v for v in student)) * math.sqrt(math.fsum(t * t for t in teacher))
    return float(max(0.0, 1 - dot / norms) ** gamma)


def cwsm(student: Row) -> float:
    return 1 / max(softmax(student, 1.0))


def temperatures(weights: Row, tau_0: float, beta: float, tau_min: float, tau_max: float) -> list[float]:
    mean = math.fsum(weights) / len(weights)
    return [min(max(tau_0 + beta * (mean - w), tau_min), tau_max) for w in weights]


@dataclass(frozen=True)
class Case:
    """A method's settings, spelled out so that no value comes from the code under test."""

    method: str
    ce_weight: float
    kd_weight: float
    label_smoothing: float = 0.0
    tau: float = 4.0
    eps: float = 0.1
    lsr_by_tau: bool = False
    tau_0: float = 4.0
    tau_min: float = 1.0
    tau_max: float = 40.0
    flsw_beta: float = 2.0
    flsw_gamma: float = 1.0
    cwsm_beta: float = 0.2


def objective(case: Case, student: Sequence[Row], teacher: Sequence[Row], labels: Sequence[int]) -> list[float]:
    """Return each sample's ce_weight CE + kd_weight tau_i^2 KL(A(softmax(t_i / tau_i))

    softmax(v_i / tau_i)).
    """
    terms = case.method.split("+")
    tau = [case.tau] * len(labels)
    bounds = (case.tau_min, case.tau_max)
    if "dtd-flsw" in terms:
        weights = [flsw(v, t, case.flsw_gamma) for v, t in zip(student, teacher, strict=True)]
        tau = temperatures(weights, case.tau_0, case.flsw_beta, *bounds)
    if "dtd-cwsm" in terms:
        tau = temperatures([cwsm(v) for v in student], case.tau_0, case.cwsm_beta, *bounds)
    losses = []
    for v, t, y, tau_i in zip(student, teacher, labels, tau, strict=True):
        target, weight = softmax(t, tau_i), 1.0
        if "ka-ps" in terms:
            target = softmax(shift(t, y), tau_i)
        if "ka-lsr" in terms and is_wrong(t, y):
            target = smooth(len(t), y, case.eps)
            weight = 1 / tau_i if case.lsr_by_tau else 1.0
        kd = 0.0 if case.method == "ce" else weight * kl(v, target, tau_i)
        ce = smoothed_cross_entropy(v, y, case.label_smoothing)
        losses.append(case.ce_weight * ce + case.kd_weight * kd)
    return losses


def distillation_loss(
    settings: Distill, student_logits: Tensor, labels: Tensor, offsets: Tensor | None, row_max: Tensor | None
) -> dict[str, Tensor]:
    """Return the objective of these settings for a teacher's offsets and row maxima."""
    teacher = {} if offsets is None or row_max is None else {"logits": offsets, "row_max": row_max}
    return Objective(settings.terms)({"logits": student_logits}, labels, teacher)

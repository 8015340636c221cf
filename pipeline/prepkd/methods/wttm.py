"""Weighted Transformed Teacher Matching: the temperature acts on the teacher alone."""

import torch
from pydantic import Field
from torch import Tensor

from prepkd.methods.kl import column, kl_divergence, paired
from prepkd.methods.term import Divergence, State, Target, Values
from prepkd.settings.section import Section


def wttm(student_logits: Tensor, teacher_logits: Tensor, *, gamma: float | Tensor) -> Tensor:
    """U KL(r || p^s) of each sample, (B,), for logits (B, K): r is the normalised power p^t_k^gamma / U, U = sum_k p^t_k^gamma.

    Both p are at temperature 1. `gamma`, a number or (B,), is 1 / tau: r is the teacher's distribution at tau. U is in
    [1, K^(1 - gamma)] for gamma up to 1, and large where the teacher is unsure. There is no tau^2.
    Source: Zheng, Yang 2024, arXiv 2402.11148.
    """
    student, teacher = paired("wttm", student_logits, teacher_logits, gamma)
    teacher = teacher - teacher.amax(dim=-1, keepdim=True)
    return weighted_divergence(student, teacher, column(gamma) * teacher, gamma=gamma)


def weighted_divergence(student_logits: Tensor, target: Tensor, tempered: Tensor, *, gamma: float | Tensor) -> Tensor:
    """`wttm`, (B,), of targets as logits (B, K): softmax(`target`) is p^t, softmax(`tempered`) is its power r."""
    # In logarithms: the power of a small probability would be 0 in half precision.
    weight = (column(gamma) * torch.log_softmax(target, dim=-1)).logsumexp(dim=-1).exp()
    return weight * kl_divergence(student_logits, target_logits=tempered, tau=1.0)


class Power(Section):
    """The exponent of the teacher's probabilities."""

    gamma: float = Field(gt=0)


class WTTM(Divergence):
    """KL of the student at temperature 1 with the teacher at tau, weighted by the teacher's uncertainty; without tau^2."""

    name = "wttm"
    source = "Zheng, Yang 2024, arXiv 2402.11148"
    equation = "U KL(p^t_tau || p^s),  U = sum_k (p^t_k)^(1 / tau)"
    ce_weight = 1.0
    kd_weight = 4.0
    published_tau = 5.0  # beside crd

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """U KL(r || p^s), (B,), with the exponent 1 / tau.

        A repaired answer q, the same at every temperature, is r itself. Its U is that of the p^t whose power is q, p^t ~ q^tau:
        U = 1 / (sum_k q_k^tau)^(1 / tau), 1.1 for a smoothed label at tau 5. The sum of q_k^(1 / tau) would be 26 for 100
        classes at eps 0.1: nearly the weight of a uniform teacher, for an answer that is certainly right.
        """
        return weighted_divergence(student_logits, target.as_logits(tau), target.log_probs(tau), gamma=1 / tau), {}

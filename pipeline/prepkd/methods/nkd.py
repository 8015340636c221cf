"""Normalised Knowledge Distillation: the label's probability, and the distribution of the other classes, apart."""

import torch
from pydantic import Field
from torch import Tensor

from prepkd.data.samples.labels import has_share, main_class
from prepkd.methods.kl import column, log_softmax_outside, paired, upcast
from prepkd.methods.term import Divergence, State, Target, Values


def nkd(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, tau: float | Tensor, gamma: float) -> Tensor:
    """-p^t[y] ln p^s[y] - gamma tau^2 sum_(k != y) q^t_k ln q^s_k of each sample, (B,), for logits (B, K).

    p is at temperature 1; q, the distribution of the other classes, is at `tau`, a number or (B,). Both parts are
    cross-entropies: neither is 0 where the student equals the teacher. Labels are int64 (B,), or shares of the classes (B, K),
    of which the largest counts. Source: Yang et al. 2023, arXiv 2303.13005; tau^2 as in the authors' code.
    """
    student, teacher = paired("nkd", student_logits, teacher_logits, tau, labels)
    return cross_entropies(student, teacher, teacher / column(tau), labels, tau=tau, gamma=gamma)


def cross_entropies(
    student_logits: Tensor, target: Tensor, tempered: Tensor, labels: Tensor, *, tau: float | Tensor, gamma: float
) -> Tensor:
    """`nkd`, (B,), of targets as logits (B, K): softmax(`target`) is p^t, softmax(`tempered`) is p^t at tau."""
    student, label = upcast(student_logits), main_class(labels)
    own = (torch.log_softmax(logits, dim=-1).gather(1, label.unsqueeze(1)).squeeze(1) for logits in (student, target))
    own_s, own_t = own
    mask = has_share(label, student.shape[-1])
    other_s, other_t = (log_softmax_outside(logits, mask) for logits in (student / column(tau), tempered))
    return -own_t.exp() * own_s - gamma * tau**2 * (other_t.exp() * other_s).sum(dim=-1)


class NKD(Divergence):
    """Cross-entropy with the teacher's probability of the label, and with its distribution of the other classes."""

    name = "nkd"
    section = "nkd"
    source = "Yang et al. 2023, arXiv 2303.13005"
    equation = "-p^t[y] ln p^s[y] - gamma tau^2 sum_(k != y) q^t_k ln q^s_k,  q at tau"
    ce_weight = 1.0
    kd_weight = 1.0
    published_tau = 1.0
    gamma: float = Field(
        default=1.5,
        ge=0,
        description="weight of the other classes' part, which alone is tempered; 1.5 belongs to kd.tau 1",
    )

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """The label's part at temperature 1 and the other classes' at tau, (B,)."""
        answers = target.logits_at(1.0, tau), target.log_probs(tau)
        return cross_entropies(student_logits, *answers, labels, tau=tau, gamma=self.gamma), {}

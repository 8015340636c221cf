"""Decoupled Knowledge Distillation: separate losses for the target class and for the other classes."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from prepkd.data.samples.labels import main_class
from prepkd.methods.kl import column, label_and_rest, paired
from prepkd.methods.term import Divergence, State, Target, Values


def dkd(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, tau: float | Tensor, alpha: float, beta: float
) -> Tensor:
    """tau^2 [alpha KL(b^t || b^s) + beta KL(q^t || q^s)] of each sample, (B,), for logits (B, K).

    b is (p[y], 1 - p[y]) and q the distribution of the other classes, at `tau`, a number or (B,). Labels are int64 (B,), or
    shares of the classes (B, K), of which the largest counts. Source: Zhao et al. 2022, arXiv 2203.08679, equation 7.

    >>> v = torch.tensor([[2.0, 0.0, 1.0]])
    >>> dkd(v, v, torch.tensor([0]), tau=4.0, alpha=1.0, beta=8.0)
    tensor([0.])
    """
    both = paired("dkd", student_logits, teacher_logits, tau, labels)
    student, teacher = (torch.log_softmax(logits / column(tau), dim=-1) for logits in both)
    own, others = decoupled_divergence(student, teacher, labels, tau=tau)
    return alpha * own + beta * others


def decoupled_divergence(
    student: Tensor, teacher: Tensor, labels: Tensor, *, tau: float | Tensor
) -> tuple[Tensor, Tensor]:
    """tau^2 KL of (p[y], 1 - p[y]), and of the other classes' distribution q; (B,) each, for log-probabilities (B, K).

    tau^2 KL(p^t || p^s) is the first plus (1 - p^t[y]) times the second.
    Source: Zhao et al. 2022, arXiv 2203.08679, equations 5 to 7.
    """
    label = main_class(labels)
    (target_s, rest_s, other_s), (target_t, rest_t, other_t) = (_parts(log_p, label) for log_p in (student, teacher))
    target = target_t.exp() * (target_t - target_s) + rest_t.exp() * (rest_t - rest_s)
    return tau**2 * target, tau**2 * (other_t.exp() * (other_t - other_s)).sum(dim=-1)


def _parts(log_p: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """ln p[y] and ln(1 - p[y]), (B,), and ln q (B, K), 0 at the label."""
    log_own, log_rest = label_and_rest(log_p, label)
    return log_own, log_rest, (log_p - log_rest.unsqueeze(-1)).scatter(1, label.unsqueeze(1), 0)


class DKD(Divergence):
    """Decoupled KD: separate weights for the target class against the rest and for the distribution of the others."""

    name: ClassVar[str] = "dkd"
    section: ClassVar[str | None] = "dkd"
    source: ClassVar[str] = "Zhao et al. 2022, arXiv 2203.08679"
    equation: ClassVar[str] = (
        "tau^2 [alpha KL((p^t[y], rest) || (p^s[y], rest)) + beta KL(q^t || q^s)],  q: p without y"
    )
    ce_weight: ClassVar[float | None] = 1.0
    kd_weight: ClassVar[float | None] = 1.0
    alpha: float = Field(default=1.0, ge=0, description="weight of the target class's part")
    beta: float = Field(default=8.0, ge=0, description="weight of the other classes' part")
    warmup_epochs: int = Field(default=20, ge=0, description="epochs over which the weight of both parts rises to 1")

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """alpha * target + beta * others, (B,), scaled linearly up to 1 during the warm-up."""
        student = Target(student_logits).log_probs(tau)
        own, others = decoupled_divergence(student, target.log_probs(tau), labels, tau=tau)
        loss = self.alpha * own + self.beta * others
        return state.warmup(self.warmup_epochs) * loss, {"target_class": own, "other_classes": others}

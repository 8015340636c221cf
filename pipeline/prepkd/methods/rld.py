"""Refined Logit Distillation: leave out the classes that the teacher wrongly prefers to the label."""

import torch
from pydantic import Field
from torch import Tensor

from prepkd.data.samples.labels import main_class
from prepkd.methods.kl import column, label_and_rest, log_softmax_outside, paired
from prepkd.methods.term import Divergence, State, Target, Values


def rld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    tau: float | Tensor,
    tau_a: float,
    alpha: float,
    beta: float,
) -> Tensor:
    """alpha tau_a^2 KL(b^t || b^s) + beta tau^2 KL(q^t || q^s) of each sample, (B,), for logits (B, K).

    b^t is (max p^t, 1 - max p^t) and b^s (p^s[y], 1 - p^s[y]), at `tau_a`. q is the distribution of the classes whose teacher's
    logit is below the label's, at `tau`, a number or (B,); without such a class the part is 0. Labels are int64 (B,), or shares
    of the classes (B, K), of which the largest counts.
    Source: Sun et al. 2024, arXiv 2408.07703, sample confidence and masked correlation distillation.
    """
    student, teacher = paired("rld", student_logits, teacher_logits, tau, labels)
    label = main_class(labels)
    (own_s, rest_s), (top_t, rest_t) = (
        label_and_rest(torch.log_softmax(logits / tau_a, dim=-1), index)
        for logits, index in ((student, label), (teacher, teacher.argmax(dim=-1)))
    )
    confidence = top_t.exp() * (top_t - own_s) + rest_t.exp() * (rest_t - rest_s)
    mask = teacher >= teacher.gather(1, label.unsqueeze(1))
    below_s, below_t = (log_softmax_outside(logits / column(tau), mask) for logits in (student, teacher))
    correlation = (below_t.exp() * (below_t - below_s)).sum(dim=-1)
    return alpha * tau_a**2 * confidence + beta * tau**2 * correlation


class RLD(Divergence):
    """The teacher's confidence for the label, and KL of the classes that the teacher ranks below the label."""

    name = "rld"
    section = "rld"
    source = "Sun et al. 2024, arXiv 2408.07703"
    equation = "alpha tau_a^2 KL((max p^t, rest) || (p^s[y], rest)) + beta tau^2 KL over k with t_k < t_y"
    takes_probs = False  # it leaves out wrong classes itself
    ce_weight = 1.0
    kd_weight = 1.0
    full_after = "warmup_epochs"
    tau_a: float = Field(default=1.0, gt=0, description="temperature of the confidence's part; dtd-* leave it")
    alpha: float = Field(default=1.0, ge=0, description="weight of the confidence's part")
    beta: float = Field(default=8.0, ge=0, description="weight of the part of the classes below the label")
    warmup_epochs: int = Field(default=20, ge=0, description="epochs over which the weight of both parts rises to 1")

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """Both parts, (B,), scaled linearly up to 1 during the warm-up."""
        weights = {"tau_a": self.tau_a, "alpha": self.alpha, "beta": self.beta}
        loss = rld(student_logits, target.as_logits(tau), labels, tau=tau, **weights)
        return state.warmup(self.warmup_epochs) * loss, {}

"""Logit regression: the squared difference of the raw logits."""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from prepkd.methods.kl import paired
from prepkd.methods.term import Divergence, State, Target, Values


def logit_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """mean_k (v_k - t_k)^2 of each sample, (B,), for raw logits (B, K): a constant added to a row changes it.

    On logits without their mean it is twice the limit of tau^2 KL for tau to infinity.
    Source: Ba, Caruana 2014, arXiv 1312.6184; the mean over the classes is that of the field's code.
    """
    return F.mse_loss(*paired("logit_mse", student_logits, teacher_logits), reduction="none").mean(dim=-1)


class LogitMSE(Divergence):
    """Mean squared difference of the raw logits; it has no temperature."""

    name: ClassVar[str] = "logit-mse"
    source: ClassVar[str] = "Ba, Caruana 2014, arXiv 1312.6184"
    equation: ClassVar[str] = "mean_k (v_k - t_k)^2"
    tempered: ClassVar[bool] = False
    takes_probs: ClassVar[bool] = False  # the logarithm of a probability near 0 has no bound
    needs_raw: ClassVar[bool] = True
    ce_weight: ClassVar[float | None] = 1.0
    kd_weight: ClassVar[float | None] = 0.1

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """The squared difference of each sample, (B,)."""
        return logit_mse(student_logits, target.as_logits(tau)), {}

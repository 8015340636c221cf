"""Logit regression: the squared difference of the raw logits."""

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

    name = "logit-mse"
    source = "Ba, Caruana 2014, arXiv 1312.6184"
    equation = "mean_k (v_k - t_k)^2"
    tempered = False
    takes_probs = False  # the logarithm of a probability near 0 has no bound
    needs_raw = True
    ce_weight = 1.0
    kd_weight = 0.1

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """The squared difference of each sample, (B,)."""
        return logit_mse(student_logits, target.as_logits(tau)), {}

"""Classic knowledge distillation: a fixed temperature and the KL divergence."""

import torch
from pydantic import Field
from torch import Tensor

from prepkd.methods.kl import column, kl_divergence
from prepkd.methods.term import Divergence, State, Target, Temperature, Values

HINTON = "Hinton et al. 2015, arXiv 1503.02531"


class FixedTemperature(Temperature):
    """Classic distillation's temperature."""

    name = "fixed"
    section = "kd"
    source = HINTON
    equation = "tau_i = tau"
    every_class = ""
    tau: float = Field(
        default=4.0, gt=0, description="temperature, without dtd-*; published: 2 with ls, 1 with nkd, 5 with wttm"
    )

    @property
    def base(self) -> float:
        """`tau`."""
        return self.tau

    def temperature(self, student_logits: Tensor, teacher_logits: Tensor) -> tuple[float | Tensor, Values]:
        """`tau` for every sample."""
        return self.tau, {}


class KD(Divergence):
    """tau^2 KL(target || student), the default divergence, at the fixed temperature `kd.tau`."""

    name = "kd"
    source = HINTON
    equation = "tau^2 sum_k p^t_k ln(p^t_k / p^s_k),  p at tau"
    ce_weight = 0.1
    every_class = ""  # its gradient is linear in the target

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """tau^2 KL of each sample (B,); for targets that are probabilities the norms of its gradient are logged."""
        if target.probs is None:
            return kl_divergence(student_logits, target_logits=target.logits, tau=tau), {}
        values = kl_divergence(student_logits, target_probs=target.probs, tau=tau)
        if target.weight is None or target.adjusted is None:
            return values, {}
        return values, gradient_norms(student_logits, target.probs, tau, target.weight, target.adjusted)


def gradient_norms(
    student_logits: Tensor, target_probs: Tensor, tau: float | Tensor, weight: Tensor, adjusted: Tensor
) -> Values:
    """The norm of each sample's gradient tau (softmax(v / tau) - target), NaN outside its group, adjusted or untouched.

    An untempered target under tau^2 has a larger gradient than KD's; both norms are logged to show it.
    """
    student_logits = student_logits.detach()
    difference = torch.softmax(student_logits / column(tau), dim=-1) - target_probs
    norms = weight * tau * difference.norm(dim=-1)
    return {
        "gradient_adjusted": norms.masked_fill(~adjusted, torch.nan),
        "gradient_untouched": norms.masked_fill(adjusted, torch.nan),
    }

"""Dynamic Temperature Distillation (DTD): uncertain samples get a sharper target."""

import torch
from torch import Tensor
from torch.nn import functional as F

from prepkd.methods.kd import upcast


def flsw_weights(student_logits: Tensor, teacher_logits: Tensor, *, gamma: float) -> Tensor:
    """max(0, 1 - cos(v, t))^gamma of each sample, detached, (B,): large where student and teacher disagree.

    Depends on the logits' shift, so `teacher_logits` must be raw. Rounding makes 1 - cos slightly negative, hence the max.
    Source: Wen et al., arXiv 1911.07471, focal loss style weights (FLSW).
    """
    cosine = F.cosine_similarity(upcast(student_logits.detach()), upcast(teacher_logits.detach()), dim=-1)
    return (1 - cosine).clamp_min(0) ** gamma


def cwsm_weights(student_logits: Tensor) -> Tensor:
    """1 / max softmax(v) of each sample, detached, (B,), in [1, K]: large where the student is unsure.

    Source: Wen et al., arXiv 1911.07471, confidence weighted by student max (CWSM).
    """
    return 1 / torch.softmax(upcast(student_logits.detach()), dim=-1).amax(dim=-1)


def unclamped_temperature(weights: Tensor, *, tau_0: float, beta: float) -> Tensor:
    """tau_0 + beta (mean w - w_i), (B,), before its clamp."""
    weights = upcast(weights.detach())
    return tau_0 + beta * (weights.mean() - weights)


def dynamic_temperature(weights: Tensor, *, tau_0: float, beta: float, tau_min: float, tau_max: float) -> Tensor:
    """clamp(tau_0 + beta (mean w - w_i), tau_min, tau_max), detached, (B,).

    Without a floor CWSM's temperature turns negative early in training (w is up to K); without a ceiling float32 loses tau^2 KL.
    Source: Wen et al., arXiv 1911.07471, Dynamic Temperature Distillation.

    >>> dynamic_temperature(torch.tensor([1.0, 3.0]), tau_0=4.0, beta=1.0, tau_min=1.0, tau_max=40.0)
    tensor([5., 3.])
    """
    return unclamped_temperature(weights, tau_0=tau_0, beta=beta).clamp(tau_min, tau_max)

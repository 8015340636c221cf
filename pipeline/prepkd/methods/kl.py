"""The distillation loss."""

import torch
from torch import Tensor


def upcast(values: Tensor) -> Tensor:
    """Half precision to float32, in which losses are computed; float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def column(tau: float | Tensor) -> float | Tensor:
    """A temperature as something that divides logits (B, K): a number, or (B,) as (B, 1)."""
    return tau.unsqueeze(-1) if isinstance(tau, Tensor) and tau.ndim else tau


def label_and_rest(log_p: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """ln p[y] and ln(1 - p[y]), (B,) each, of log-probabilities (B, K): no probability is formed that could round to 0."""
    index = label.unsqueeze(1)
    return log_p.gather(1, index).squeeze(1), log_p.scatter(1, index, -torch.inf).logsumexp(dim=-1)


def log_softmax_outside(logits: Tensor, mask: Tensor) -> Tensor:
    """Log-probabilities (B, K) among the classes outside `mask`, bool (B, K); 0 inside it, with gradient 0.

    A row that is masked throughout is 0.
    """
    left = ~mask.all(dim=-1, keepdim=True)  # the softmax of a row of -inf is NaN
    return torch.log_softmax(logits.masked_fill(mask & left, -torch.inf), dim=-1).masked_fill(mask, 0)


def kl_divergence(
    student_logits: Tensor,
    *,
    target_logits: Tensor | None = None,
    target_probs: Tensor | None = None,
    tau: float | Tensor,
) -> Tensor:
    """tau^2 KL(target || softmax(v / tau)) of each sample, shape (B,), in float32 or better.

    Logits v are (B, K); the target is either logits (B, K), tempered here, or probabilities (B, K), taken as they are.
    `tau` is a number or (B,). Raises ValueError unless exactly one target is given.
    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.

    >>> v = torch.tensor([[2.0, 0.0]])
    >>> kl_divergence(v, target_logits=v, tau=4.0)
    tensor([0.])
    """
    if (target_logits is None) == (target_probs is None):
        raise ValueError("kl_divergence takes exactly one of target_logits and target_probs")
    log_q = torch.log_softmax(upcast(student_logits) / column(tau), dim=-1)
    if target_logits is not None:
        log_p = torch.log_softmax(upcast(target_logits) / column(tau), dim=-1)
        terms = log_p.exp() * (log_p - log_q)
    else:
        assert target_probs is not None
        p = upcast(target_probs)
        terms = torch.xlogy(p, p) - p * log_q
    return tau**2 * terms.sum(dim=-1)

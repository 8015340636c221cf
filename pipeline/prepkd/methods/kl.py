"""The distillation loss."""

import torch
from torch import Tensor

from prepkd.errors import InputError


def upcast(values: Tensor) -> Tensor:
    """Convert half precision to float32, in which losses are computed; leave float32 and float64 unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def column(tau: float | Tensor) -> float | Tensor:
    """Return a temperature in a form that divides logits (B, K): a number as it is, (B,) as (B, 1)."""
    return tau.unsqueeze(-1) if isinstance(tau, Tensor) and tau.ndim else tau


def paired(
    loss: str, student: Tensor, teacher: Tensor, tau: float | Tensor | None = None, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return both tensors in float32 or better; no gradient flows into the teacher's.

    Raises InputError unless both have the same shape (B, ...), `tau`, if given, is a number or (B,), and `labels`, if given, are
    int64 (B,) or shares of the classes (B, K). Unequal shapes would otherwise be broadcast silently.
    """
    if student.shape != teacher.shape:
        found = f"shapes {tuple(student.shape)} and {tuple(teacher.shape)}"
        raise InputError(f"{loss}: {found} of student and teacher; expected the same")
    if isinstance(tau, Tensor) and tau.shape not in ((), student.shape[:1]):
        raise InputError(f"{loss}: a temperature of shape {tuple(tau.shape)}; expected a number or ({len(student)},)")
    if labels is not None:
        check_labels(loss, student, labels)
    return upcast(student), upcast(teacher.detach())


def check_labels(loss: str, logits: Tensor, labels: Tensor) -> None:
    """Raise InputError unless labels of logits (B, K) are (B,), or shares of the classes (B, K)."""
    if labels.shape not in (logits.shape[:1], logits.shape):
        expected = f"({len(logits)},) or {tuple(logits.shape)}"
        raise InputError(f"{loss}: labels of shape {tuple(labels.shape)}; expected {expected}, as the logits have")


def label_and_rest(log_p: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """ln p[y] and ln(1 - p[y]), (B,) each, of log-probabilities (B, K): no probability is formed that could round to 0."""
    index = label.unsqueeze(1)
    return log_p.gather(1, index).squeeze(1), log_p.scatter(1, index, -torch.inf).logsumexp(dim=-1)


def log_softmax_outside(logits: Tensor, mask: Tensor) -> Tensor:
    """Log-probabilities (B, K) among the classes outside `mask`, bool (B, K); 0 inside it, with gradient 0.

    A fully masked row is 0.
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
    `tau` is a number or (B,). Raises ValueError unless exactly one target is given, InputError for unequal shapes.
    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.

    >>> v = torch.tensor([[2.0, 0.0]])
    >>> kl_divergence(v, target_logits=v, tau=4.0)
    tensor([0.])
    """
    if (target_logits is None) == (target_probs is None):
        raise ValueError("kl_divergence takes exactly one of target_logits and target_probs")
    given = target_probs if target_logits is None else target_logits
    assert given is not None
    student, target = paired("kl_divergence", student_logits, given, tau)
    log_q = torch.log_softmax(student / column(tau), dim=-1)
    if target_probs is None:
        log_p = torch.log_softmax(target / column(tau), dim=-1)
        terms = log_p.exp() * (log_p - log_q)
    else:
        terms = torch.xlogy(target, target) - target * log_q
    return tau**2 * terms.sum(dim=-1)

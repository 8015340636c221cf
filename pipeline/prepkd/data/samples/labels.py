"""Labels: one class per sample, int64 (B,), or, if a view mixes two samples, the share of each class, float (B, K)."""

import torch
from torch import Tensor


def mixture(first: Tensor, second: Tensor, share: Tensor, classes: int) -> Tensor:
    """Mix `share` of the first label with the rest of the second, float32 (B, K); labels int64 (B,), shares float32 (B,).

    >>> mixture(torch.tensor([0]), torch.tensor([2]), torch.tensor([0.75]), 3)
    tensor([[0.7500, 0.0000, 0.2500]])
    """
    labels = share.new_zeros(len(share), classes)
    labels.scatter_add_(1, first.unsqueeze(1), share.unsqueeze(1))
    return labels.scatter_add_(1, second.unsqueeze(1), 1 - share.unsqueeze(1))


def main_class(labels: Tensor) -> Tensor:
    """The class with the largest share, the first of equals, int64 (B,)."""
    return labels if labels.ndim == 1 else labels.argmax(dim=-1)


def has_share(labels: Tensor, classes: int) -> Tensor:
    """The classes with a share in the label, bool (B, K)."""
    if labels.ndim == 2:
        return labels > 0
    none = torch.zeros(len(labels), classes, dtype=torch.bool, device=labels.device)
    return none.scatter(1, labels.unsqueeze(1), True)


def is_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether no class of the label has the row's largest logit, bool (B,), for logits (B, K); a tie at the top is right."""
    if labels.ndim == 1:
        own = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    else:
        own = logits.masked_fill(labels <= 0, -torch.inf).amax(dim=-1)
    return own < logits.amax(dim=-1)

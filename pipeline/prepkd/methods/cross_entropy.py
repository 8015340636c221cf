"""Training without a teacher."""

from torch import Tensor
from torch.nn import functional as F

from prepkd.methods.kl import check_labels, upcast
from prepkd.methods.term import LabelTerm, State


def cross_entropy(student_logits: Tensor, labels: Tensor, *, eps: float = 0.0) -> Tensor:
    """-sum_k u_k ln softmax(v)_k of each sample with u = (1 - eps) onehot(y) + eps / K, (B,), in float32 or better.

    `labels` is int64 (B,), or shares of the classes (B, K), which stand for onehot(y).
    Source: Szegedy et al. 2016, arXiv 1512.00567, section 7 (label-smoothing regularization).

    >>> import torch
    >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), eps=0.1)
    tensor([0.6931])
    """
    check_labels("cross_entropy", student_logits, labels)
    logits = upcast(student_logits)
    given = labels if labels.ndim == 1 else labels.to(logits.dtype)
    return F.cross_entropy(logits, given, reduction="none", label_smoothing=eps)


class CrossEntropy(LabelTerm):
    """Cross-entropy with the labels, without a teacher; other methods add it with `ce_weight`."""

    name = "ce"
    source = "the baseline without a teacher"
    equation = "-ln p[y]"
    label_smoothing: float = 0.0  # the training setting of that name

    def loss(self, student_logits: Tensor, labels: Tensor, state: State) -> Tensor:
        """Cross-entropy of each sample, (B,)."""
        return cross_entropy(student_logits, labels, eps=self.label_smoothing)

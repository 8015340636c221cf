"""Knowledge Adjustment (KA): the teacher's wrong answers are repaired, its right ones left alone."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from prepkd.data.samples.labels import is_wrong, main_class
from prepkd.methods.kl import check_labels, column, upcast
from prepkd.methods.term import Adjustment, Target
from prepkd.settings.section import Section

WEN = "Wen et al. 2019, arXiv 1911.07471"


def teacher_wrong(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Mark rows whose maximum is not the label's logit, bool (B,); a tie at the top is right, as is either class of a mixture.

    `labels` is int64 (B,), or shares of the classes (B, K).
    """
    check_labels("teacher_wrong", teacher_logits, labels)
    return is_wrong(teacher_logits, labels)


def probability_shift(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Swap the values at the label and at the maximum where the teacher is wrong; (B, K) to (B, K).

    Swapping logits is swapping probabilities, at any temperature. `labels` is int64 (B,), or shares of the classes (B, K):
    then the class with the largest share is the label.
    Source: Wen et al., "Preparing Lessons", arXiv 1911.07471, Knowledge Adjustment by Probability Shift.

    >>> probability_shift(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([1]))
    tensor([[1., 3., 0.]])
    """
    check_labels("probability_shift", teacher_logits, labels)
    top = teacher_logits.argmax(dim=-1, keepdim=True)
    label = main_class(labels).unsqueeze(-1)
    if labels.ndim == 2:  # right on the smaller share: nothing to repair
        label = torch.where(teacher_wrong(teacher_logits, labels).unsqueeze(-1), label, top)
    # Where the teacher is right the label's place takes its own value back, even in a tie: a swap of equal values.
    shifted = teacher_logits.scatter(-1, top, teacher_logits.gather(-1, label))
    return shifted.scatter(-1, label, teacher_logits.gather(-1, top))


def label_smooth(teacher_logits: Tensor, labels: Tensor, *, tau: float | Tensor, eps: float) -> Tensor:
    """softmax(t / tau) where the teacher is right, else (1 - eps) onehot(y) + eps / K, not tempered; (B, K) probabilities.

    `tau` is a number or (B,). Labels that are shares of the classes (B, K) stand for onehot(y).
    Source: Wen et al., arXiv 1911.07471, Knowledge Adjustment by Label Smoothing Regularization.

    >>> label_smooth(torch.tensor([[3.0, 1.0]]), torch.tensor([1]), tau=4.0, eps=0.1)
    tensor([[0.0500, 0.9500]])
    """
    check_labels("label_smooth", teacher_logits, labels)
    right = torch.softmax(upcast(teacher_logits) / column(tau), dim=-1)
    smooth = torch.full_like(right, eps / right.shape[-1])
    if labels.ndim == 2:
        smooth = smooth + (1 - eps) * labels.to(right.dtype)
    else:
        smooth = smooth.scatter_add(-1, labels.unsqueeze(-1), torch.full_like(right[:, :1], 1 - eps))
    return torch.where(teacher_wrong(teacher_logits, labels).unsqueeze(-1), smooth, right)


class KA(Section):
    """Knowledge Adjustment: settings of both forms."""

    section: ClassVar[str | None] = "ka"
    eps: float = Field(default=0.1, ge=0, le=1, description="ka-lsr: 1 - eps + eps / K on the label")
    lsr_weight: Literal[1, "1/tau"] = Field(default=1, description="1 (the paper's form) or 1/tau")


class ProbabilityShift(KA, Adjustment):
    """Swap the values at the label and at the maximum where the teacher is wrong."""

    name = "ka-ps"
    ignored_settings = frozenset({"eps", "lsr_weight"})
    source = WEN
    equation = "where t[y] < max t: swap t[y] and max t"
    every_class = ""  # it reads the label and the maximum

    def adjust(self, teacher_logits: Tensor, labels: Tensor, tau: float | Tensor) -> Target:
        """Shifted logits."""
        return Target(probability_shift(teacher_logits, labels), adjusted=teacher_wrong(teacher_logits, labels))


class LabelSmoothing(KA, Adjustment):
    """Replace the teacher's answer by (1 - eps) onehot(y) + eps / K where it is wrong."""

    name = "ka-lsr"
    gives_probs = True
    source = WEN
    equation = "where t[y] < max t: (1 - eps) onehot(y) + eps / K"
    every_class = ""  # it reads the label and the maximum

    def adjust(self, teacher_logits: Tensor, labels: Tensor, tau: float | Tensor) -> Target:
        """Probabilities; with `lsr_weight: 1/tau` the replaced ones weigh 1 / tau."""
        wrong = teacher_wrong(teacher_logits, labels)
        probs = label_smooth(teacher_logits, labels, tau=tau, eps=self.eps)
        weight = torch.ones_like(probs[:, 0])
        if self.lsr_weight == "1/tau":
            weight = torch.where(wrong, weight / tau, weight)
        return Target(probs=probs, adjusted=wrong, weight=weight)

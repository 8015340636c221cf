"""Training without a teacher."""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from prepkd.methods.term import LabelTerm, State


class CrossEntropy(LabelTerm):
    """Cross-entropy with the labels, without a teacher; other methods add it with `ce_weight`."""

    name: ClassVar[str] = "ce"
    source: ClassVar[str] = "the baseline without a teacher"
    label_smoothing: float = 0.0  # the training setting of that name

    def loss(self, student_logits: Tensor, labels: Tensor, state: State) -> Tensor:
        """Cross-entropy of each sample, (B,)."""
        given = labels if labels.ndim == 1 else labels.to(student_logits.dtype)
        return F.cross_entropy(student_logits, given, reduction="none", label_smoothing=self.label_smoothing)

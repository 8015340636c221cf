"""Label-smoothing regularisation as the loss with the labels."""

from pydantic import Field
from torch import Tensor

from prepkd.methods.cross_entropy import cross_entropy
from prepkd.methods.term import LabelTerm, State


class SmoothedLabels(LabelTerm):
    """Cross-entropy with smoothed labels, in place of `ce`: `ce` with `label_smoothing`, as a term."""

    name = "lsr"
    section = "lsr"
    source = "Szegedy et al. 2016, arXiv 1512.00567"
    equation = "-sum_k u_k ln p_k,  u = (1 - eps) onehot(y) + eps / K"
    # Another convention has 1 - a at the label and a / (K - 1) elsewhere: the same at eps = a K / (K - 1).
    eps: float = Field(default=0.1, ge=0, le=1, description="share of each label spread over all classes")

    def loss(self, student_logits: Tensor, labels: Tensor, state: State) -> Tensor:
        """Cross-entropy of each sample, (B,)."""
        return cross_entropy(student_logits, labels, eps=self.eps)

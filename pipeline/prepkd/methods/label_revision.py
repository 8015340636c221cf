"""Label Revision: mix a wrong answer of the teacher with the label so that the label becomes the maximum."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from prepkd.data.samples.labels import main_class
from prepkd.methods.kl import check_labels, column, upcast
from prepkd.methods.knowledge_adjustment import teacher_wrong
from prepkd.methods.term import Adjustment, Target


def label_revision(teacher_logits: Tensor, labels: Tensor, *, eta: float) -> Tensor:
    """b p + (1 - b) onehot(y) with b = eta / (max p - p[y] + 1), where the teacher is wrong, else p = softmax(t); (B, K).

    The label then exceeds every other class by 1 - eta or more. `labels` is int64 (B,), or shares of the classes (B, K): they
    stand for onehot(y), y is the class with the largest share s, b = eta / ((max p - p[y]) / s + 1), and the lead over classes
    without a share is s (1 - eta) or more.
    Source: Lan et al. 2024, arXiv 2404.03693, Label Revision.

    >>> label_revision(torch.tensor([[2.0, 0.0]]), torch.tensor([1]), eta=0.8)
    tensor([[0.4000, 0.6000]])
    """
    check_labels("label_revision", teacher_logits, labels)
    p = torch.softmax(upcast(teacher_logits), dim=-1)
    shares = F.one_hot(labels, p.shape[-1]).to(p.dtype) if labels.ndim == 1 else labels.to(p.dtype)
    label = main_class(labels).unsqueeze(-1)
    lead = (p.amax(dim=-1, keepdim=True) - p.gather(-1, label)) / shares.gather(-1, label)
    beta = eta / (lead + 1)
    revised = beta * p + (1 - beta) * shares
    return torch.where(teacher_wrong(teacher_logits, labels).unsqueeze(-1), revised, p)


class LabelRevision(Adjustment):
    """Mix a wrong answer with the label, so that the label leads by 1 - eta; the same at every temperature."""

    name = "label-revision"
    section = "label_revision"
    source = "Lan et al. 2024, arXiv 2404.03693"
    equation = "wrong answers: b softmax(t) + (1 - b) onehot(y),  b = eta / (max p - p[y] + 1),  p = softmax(t)"
    excludes = {
        "luminet": "luminet's statistics are of logits, and a revised answer is probabilities",
        "rld": "rld corrects the teacher itself",
        "sld": "sld corrects the teacher itself",
    }
    gives_probs = True
    ce_weight = 1.0
    kd_weight = 1.0
    eta: float = Field(default=0.8, ge=0, le=1, description="the label leads by 1 - eta; 0: onehot(y)")

    def adjust(self, teacher_logits: Tensor, labels: Tensor, tau: float | Tensor) -> Target:
        """Probabilities: revised where the teacher is wrong, else softmax(t / tau)."""
        wrong = teacher_wrong(teacher_logits, labels)
        revised = label_revision(teacher_logits, labels, eta=self.eta)
        right = torch.softmax(upcast(teacher_logits) / column(tau), dim=-1)
        return Target(probs=torch.where(wrong.unsqueeze(-1), revised, right), adjusted=wrong)

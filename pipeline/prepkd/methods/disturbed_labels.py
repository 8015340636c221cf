"""DisturbLabel: a random share of the labels is replaced, anew in each epoch."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from prepkd.errors import InputError
from prepkd.methods.cross_entropy import cross_entropy
from prepkd.methods.term import LabelTerm, State
from prepkd.runtime.streams import DrawContext, Purpose, bernoulli, bounded_integers, raw_words

KEPT = -1


def disturbed_labels(labels: Tensor, replacements: Tensor) -> Tensor:
    """Replace the labels where `replacements`, int64 (B,), is a class and not -1.

    `labels` is int64 (B,), or shares of the classes (B, K); a replaced row of shares becomes onehot.
    Source: Xie et al. 2016, arXiv 1605.00055, DisturbLabel.

    >>> disturbed_labels(torch.tensor([4, 7]), torch.tensor([-1, 2]))
    tensor([4, 2])
    """
    if replacements.shape != labels.shape[:1]:
        found = f"{tuple(replacements.shape)} for labels {tuple(labels.shape)}"
        raise InputError(f"disturbed_labels: replacements of shape {found}; expected {tuple(labels.shape[:1])}")
    kept = replacements == KEPT
    if labels.ndim == 1:
        return torch.where(kept, labels, replacements)
    replaced = F.one_hot(replacements.clamp_min(0), labels.shape[-1]).to(labels.dtype)
    return torch.where(kept.unsqueeze(-1), labels, replaced)


class DisturbedLabels(LabelTerm):
    """Cross-entropy with a label that is, with probability alpha, drawn from all classes; in place of `ce`."""

    name = "disturb-label"
    section = "disturb_label"
    source = "Xie et al. 2016, arXiv 1605.00055"
    equation = "-ln p[y'],  P(y' = y) = 1 - alpha (K - 1) / K,  P(y' = k) = alpha / K for the others"
    drawn = ("disturbed_label",)
    alpha: float = Field(default=0.1, ge=0, le=1, description="share of the labels that is drawn anew in each epoch")

    def draw(self, at: DrawContext) -> dict[str, NDArray[Any]]:
        """Draw each sample's new label, int64 (N,), or -1; two random words per sample, for any alpha."""
        words = raw_words(at.seed, Purpose.DISTURBED_LABELS.stream(at.epoch), 0, 2 * at.samples).reshape(-1, 2)
        return {
            "disturbed_label": np.where(
                bernoulli(words[:, 0], self.alpha), bounded_integers(words[:, 1], at.classes), KEPT
            )
        }

    def loss(self, student_logits: Tensor, labels: Tensor, state: State) -> Tensor:
        """Cross-entropy of each sample with its label of this epoch, (B,)."""
        return cross_entropy(student_logits, disturbed_labels(labels, state.drawn["disturbed_label"]))

"""Correlation Congruence: a Gaussian kernel between a batch's samples, the same for student and teacher."""

import math

import torch
from pydantic import Field
from torch import Tensor

from prepkd.methods.batch_relation import BatchRelation
from prepkd.methods.term import State
from prepkd.methods.vectors import paired_vectors, unit
from prepkd.models.features import Answers


def correlation_congruence(student: Tensor, teacher: Tensor, *, gamma: float, order: int) -> Tensor:
    """Each sample's share (B,) of ||K_s - K_t||^2 / B^2 for features (B, D).

    K_ij = e^(-2 gamma) sum_{p <= order} (2 gamma c_ij)^p / p!, c the cosine: the Taylor series of the Gaussian kernel
    exp(-gamma |f_i - f_j|^2) of vectors of length 1. The mean of the shares is the loss of the batch. D may differ between
    the models. Raises InputError for fewer than two samples.

    This is the kernel form of the paper. The numbers that Tian et al. (arXiv 1910.10699) and their followers publish as CC
    are of another loss, between trained embeddings of neighbours in the batch.
    Source: Peng et al. 2019, arXiv 1904.01802.
    """
    own, theirs = paired_vectors(student, teacher, "correlation_congruence", 2)
    return (_kernel(own, gamma, order) - _kernel(theirs, gamma, order)).square().mean(dim=1)


def _kernel(rows: Tensor, gamma: float, order: int) -> Tensor:
    rows = unit(rows)
    cosines = rows @ rows.T
    series = torch.ones_like(cosines)
    for p in range(order, 0, -1):  # Horner's rule
        series = 1 + series * cosines * (2 * gamma / p)
    return math.exp(-2 * gamma) * series


class CorrelationCongruence(BatchRelation):
    """Squared difference of Gaussian kernels between a batch's pooled vectors; published numbers of CC are of another loss."""

    name = "cc"
    section = "cc"
    source = "Peng et al. 2019, arXiv 1904.01802"
    equation = "||K_s - K_t||^2 / B^2,  K: a Gaussian kernel by its Taylor series"
    loss_only = frozenset({"weight", "gamma", "order"})
    weight: float = Field(default=100.0, gt=0, description="weight of the term")
    gamma: float = Field(default=0.4, gt=0, description="inverse width of the Gaussian kernel")
    order: int = Field(default=2, ge=1, le=32, description="order of its Taylor series")

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """Each sample's share, (B,)."""
        own, theirs = student[self.feature], teacher[self.feature]
        return correlation_congruence(own, theirs, gamma=self.gamma, order=self.order)

"""DIST: match correlations, of a sample's classes and of a class's samples, in place of exact probabilities."""

import torch
from pydantic import Field
from torch import Tensor

from prepkd.errors import InputError
from prepkd.methods.kl import column, paired
from prepkd.methods.term import Divergence, State, Target, Values

LEAST = 1e-30  # mean probability: the gradient of a smaller one, 1 / mean, could overflow


def dist(student_logits: Tensor, teacher_logits: Tensor, *, tau: float | Tensor, beta: float, gamma: float) -> Tensor:
    """tau^2 [beta (1 - rho of the sample's row) + gamma (1 - its share of the columns' mean rho)], (B,), for logits (B, K).

    rho is Pearson's correlation of the student's with the teacher's probabilities at `tau`; the mean of the shares over the
    batch is the mean of rho over the columns. A row or column without spread, up to rounding, has rho 0. `tau` is a number;
    it may be (B,) where `gamma` is 0. Raises InputError for a column of one sample, or of samples at several temperatures.
    Source: Huang et al. 2022, arXiv 2205.10536; tau^2 as in the authors' code.
    """
    if gamma and len(student_logits) == 1:
        raise InputError("dist correlates each class over the batch: a batch of one sample; expected two or more")
    if gamma and isinstance(tau, Tensor) and tau.ndim:
        raise InputError("dist: gamma > 0 and a temperature per sample, which a class's column mixes; expected one tau")
    both = paired("dist", student_logits, teacher_logits, tau)
    student, teacher = (torch.softmax(logits / column(tau), dim=-1) for logits in both)
    rows, columns = (1 - (_scaled(student, dim) * _scaled(teacher, dim)).mean(dim=-1) for dim in (1, 0))
    return tau**2 * (beta * rows + gamma * columns)


def _scaled(probs: Tensor, dim: int) -> Tensor:
    """Scale to mean 0 and variance 1 along a dimension; values whose spread is rounding stay near 0, so gradients stay small.

    The spread is relative to the mean: a class of small probabilities counts like any other.
    """
    mean = probs.mean(dim=dim, keepdim=True)
    relative = (probs - mean) / mean.detach().clamp_min(LEAST)
    return relative * relative.square().mean(dim=dim, keepdim=True).clamp_min(torch.finfo(probs.dtype).eps).rsqrt()


_MIXED = "dist correlates a class over the samples of a batch, which {} gives different temperatures"


class DIST(Divergence):
    """Correlation of the probabilities in place of KL: of each sample's classes, and of each class's samples in a batch."""

    name = "dist"
    section = "dist"
    source = "Huang et al. 2022, arXiv 2205.10536"
    equation = "tau^2 [beta (1 - rho(p^s, p^t)) + gamma (1 - mean_k rho_k)],  rho_k: class k over the batch"
    excludes = {name: _MIXED.format(name) for name in ("dtd-flsw", "dtd-cwsm")}
    ce_weight = 1.0
    kd_weight = 2.0
    beta: float = Field(default=1.0, ge=0, description="weight of the rows: a sample's classes")
    gamma: float = Field(default=1.0, ge=0, description="weight of the columns: a class's samples in the batch")

    @property
    def smallest_batch(self) -> int:
        """Two samples, unless the columns have no weight."""
        return 2 if self.gamma else 1

    def divergence(
        self, student_logits: Tensor, target: Target, labels: Tensor, tau: float | Tensor, state: State
    ) -> tuple[Tensor, Values]:
        """beta (1 - rho of the row) + gamma (1 - the share of the columns'), (B,), times tau^2."""
        return dist(student_logits, target.as_logits(tau), tau=tau, beta=self.beta, gamma=self.gamma), {}

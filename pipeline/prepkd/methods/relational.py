"""Relational Knowledge Distillation: distances and angles between a batch's samples are those of the teacher."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from prepkd.methods.batch_relation import BatchRelation
from prepkd.methods.term import State
from prepkd.methods.vectors import paired_vectors, scaled
from prepkd.models.features import Answers


def relational(student: Tensor, teacher: Tensor, *, distance: float, angle: float) -> Tensor:
    """Each sample's share (B,) of distance * mean_ij h(d_s - d_t) + angle * mean_ijk h(cos_s - cos_t), vectors (B, D).

    d_ij = |f_i - f_j| divided by its mean over pairs of different vectors; cos_ijk is that of the angle at i between j and
    k, 0 where two of them are equal; h is smooth L1 with beta 1. Sample i has the terms of its row i, and the mean of the
    shares is the loss of the batch. Memory is B^2 D + B^3, without angles (`angle` 0) B^2 D. D may differ between the models.
    Raises InputError for fewer than three samples, whose relations are always equal.
    Source: Park et al. 2019, arXiv 1904.05068; the constants are those of the authors' code.
    """
    own, theirs = (_differences(rows) for rows in paired_vectors(student, teacher, "relational", 3))
    share = distance * F.smooth_l1_loss(_distances(*own), _distances(*theirs), reduction="none").mean(dim=1)
    if angle:
        share = share + angle * F.smooth_l1_loss(_angles(*own), _angles(*theirs), reduction="none").mean(dim=(1, 2))
    return share


def _differences(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f_j - f_i at [i, j], (B, B, D), up to a common scale; their lengths (B, B); a mask of the lengths above rounding.

    Computed from the differences themselves: the Gram form |f_i|^2 + |f_j|^2 - 2 f_i f_j loses its digits under an offset.
    """
    rows = scaled(rows)
    differences = rows.unsqueeze(0) - rows.unsqueeze(1)
    squares = differences.square().sum(dim=-1)
    differ = squares > (8 * torch.finfo(rows.dtype).eps) ** 2
    # For equal vectors neither root nor direction has a gradient; a safe value under the root keeps NaN out of it.
    return differences, torch.where(differ, squares, 1.0).sqrt(), differ


def _distances(_: Tensor, lengths: Tensor, differ: Tensor) -> Tensor:
    """Distances (B, B), divided by their mean; 0 where two vectors are equal."""
    lengths = torch.where(differ, lengths, 0.0)
    mean = lengths.sum() / differ.sum().clamp_min(1)
    return lengths / torch.where(mean > 0, mean, 1.0)


def _angles(differences: Tensor, lengths: Tensor, differ: Tensor) -> Tensor:
    """Cosines (B, B, B) of the angles at the first sample between the two others."""
    directions = torch.where(differ.unsqueeze(-1), differences / lengths.unsqueeze(-1), 0.0)
    return directions @ directions.transpose(1, 2)


class Relational(BatchRelation):
    """Smooth L1 of the distances, and of the angles, between a batch's pooled vectors."""

    name = "rkd"
    section = "rkd"
    source = "Park et al. 2019, arXiv 1904.05068"
    equation = "distance mean_ij h(d_s - d_t) + angle mean_ijk h(cos_s - cos_t),  h: smooth L1"
    loss_only = frozenset({"weight", "distance", "angle"})
    weight: float = Field(default=1.0, gt=0, description="weight of both parts")
    distance: float = Field(default=25.0, ge=0, description="weight of the distances")
    angle: float = Field(default=50.0, ge=0, description="weight of the angles; 0 saves their B^3 memory")

    @property
    def smallest_batch(self) -> int:
        """Three samples: of two, distances and angles are always equal."""
        return 3

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """Each sample's share, (B,)."""
        own, theirs = student[self.feature], teacher[self.feature]
        return relational(own, theirs, distance=self.distance, angle=self.angle)

"""Activation Boundaries: the student's neurons are active where the teacher's are, with a margin."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from prepkd.methods.connected import ConnectedTerm
from prepkd.methods.kl import paired
from prepkd.methods.maps import averaged
from prepkd.methods.term import Shapes
from prepkd.models.features import Answers


def activation_boundary(student: Tensor, active: Tensor, *, margin: float) -> Tensor:
    """The squared hinge loss of the student's pre-activations s, summed over the elements of each sample, (B,).

    `student` is (B, ...), `active` bool (B, ...): where the teacher's pre-activations are above 0. An element is
    max(0, margin - s)^2 where the teacher's is active, max(0, margin + s)^2 elsewhere.
    Source: Heo et al. 2019, arXiv 1811.03233, the alternative loss.

    >>> activation_boundary(torch.tensor([[2.0, 0.5, -3.0]]), torch.tensor([[True, True, True]]), margin=1.0)
    tensor([16.2500])
    """
    own, active = paired("activation_boundary", student, active)
    return F.relu(margin - torch.where(active, own, -own)).square().flatten(1).sum(dim=1)


class ActivationBoundaries(ConnectedTerm):
    """Squared hinge loss of the student's pre-activations: active where the teacher's are, through trained connectors."""

    name = "ab"
    section = "ab"
    source = "Heo et al. 2019, arXiv 1811.03233"
    equation = "sum over stages, 1/2 each back, of max(0, margin - s)^2 where t > 0, else max(0, margin + s)^2"
    loss_only = frozenset({"weight", "margin"})
    store_dtype = "bits"
    weight: float = Field(default=0.003, gt=0, description="weight of the sum over the stages and all their elements")
    margin: float = Field(
        default=1.0, gt=0, description="distance from 0 that the student's pre-activations are drawn to"
    )

    def teacher_tensors(self, features: Answers, other: Shapes) -> Answers:
        """Return whether each neuron is active, bool (B, C, H, W); maps are averaged to the smaller of both models' sizes."""
        return {f"ab/{name}": averaged(features[name], size) > 0 for name, size in self.sized(features, other)}

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The squared hinge loss, (B,)."""
        return activation_boundary(student, teacher > 0, margin=self.margin)  # a store returns numbers, not bools

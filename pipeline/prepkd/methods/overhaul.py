"""Overhaul of feature distillation: partial L2 distance to the teacher's pre-activations after a margin ReLU."""

import math

import torch
from pydantic import Field
from torch import Tensor

from prepkd.errors import InputError
from prepkd.methods.connected import ConnectedTerm
from prepkd.methods.kl import paired, upcast
from prepkd.methods.maps import averaged
from prepkd.methods.term import Shapes
from prepkd.models.features import AFFINE, Answers


def negative_mean(weight: Tensor, bias: Tensor) -> Tensor:
    """E[x | x < 0] of x ~ N(bias, weight^2), the margin of each channel, (C,), float64, of a batch norm's weight and bias (C,).

    If x < 0 is rarer than 0.001, it is -3 |weight|, as in the authors' code; of a constant channel it is min(bias, 0).
    Source: Heo et al. 2019, arXiv 1904.01866, equation 10 (equation 9 is misprinted).

    >>> negative_mean(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 9.0]))
    tensor([-0.7979, -6.0000], dtype=torch.float64)
    """
    mean, constant = bias.double(), weight == 0
    std = torch.where(constant, 1.0, weight.double().abs())
    z = mean / std
    # erfc, because 1 + erf loses the small probability to rounding, and the margin its sign.
    below = torch.special.erfc(z / math.sqrt(2)) / 2
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    common = below > 0.001
    margin = torch.where(common, mean - std * density / torch.where(common, below, 1.0), -3 * std)
    return torch.where(constant, mean.clamp_max(0), margin)


def margin_relu(features: Tensor, margin: Tensor) -> Tensor:
    """max(x, margin) of a map (B, C, H, W), for a margin per channel, (C,) or (B, C).

    Source: Heo et al. 2019, arXiv 1904.01866, section 3.1.
    """
    values = upcast(features)
    channels = features.shape[1:2]
    if margin.shape not in (channels, features.shape[:2]):
        found = f"a map {tuple(features.shape)} and margins {tuple(margin.shape)}"
        raise InputError(f"margin_relu: {found}; expected {tuple(channels)} or {tuple(features.shape[:2])}")
    return torch.maximum(values, margin.to(values.dtype)[..., None, None])


def overhaul(student: Tensor, target: Tensor) -> Tensor:
    """The squared distance to the target, summed over all elements of a sample, (B,); both are (B, ...), else InputError.

    An element counts unless the target is negative or 0 and the student below it. The target is the teacher's pre-activation
    after `margin_relu`. Source: Heo et al. 2019, arXiv 1904.01866, equation 4.

    >>> overhaul(torch.tensor([[-9.0, 0.0, 1.0]]), torch.tensor([[-1.0, -1.0, 3.0]]))
    tensor([5.])
    """
    own, theirs = paired("overhaul", student, target)
    difference = torch.where((own > theirs) | (theirs > 0), own - theirs, 0.0)
    return difference.square().flatten(1).sum(dim=1)


class Overhaul(ConnectedTerm):
    """Partial squared distance to the teacher's pre-activations after a margin ReLU, through trained connectors."""

    name = "ofd"
    section = "ofd"
    source = "Heo et al. 2019, arXiv 1904.01866"
    equation = "sum over stages, 1/2 each back, of (s - T)^2 where s > T or T > 0,  T = max(t, E[t | t < 0])"
    weight: float = Field(default=0.001, gt=0, description="weight of the sum over the stages and all their elements")

    @property
    def teacher_features(self) -> tuple[str, ...]:
        """The weights and biases of the batch norms, which give the margins."""
        return tuple(f"{name}{AFFINE}" for name in self.stages)

    def teacher_tensors(self, features: Answers, other: Shapes) -> Answers:
        """The pre-activations after the margin ReLU, (B, C, H, W), in the size of the smaller of both models' maps."""
        margins = {name: negative_mean(*features[f"{name}{AFFINE}"][0]) for name in self.stages}
        return {
            f"ofd/{name}": margin_relu(averaged(features[name], size), margins[name])
            for name, size in self.sized(features, other)
        }

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The partial squared distance, (B,)."""
        return overhaul(student, teacher)

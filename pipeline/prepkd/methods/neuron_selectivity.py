"""Neuron Selectivity Transfer: the student's channels respond to the regions that the teacher's respond to."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from prepkd.methods.kl import paired
from prepkd.methods.maps import StagesTerm, averaged
from prepkd.methods.term import Shapes, State
from prepkd.methods.vectors import unit
from prepkd.models.features import Answers


def selectivity_kernel(features: Tensor) -> Tensor:
    """A = mean over channels of u u', (B, HW, HW), u a channel's map scaled to length 1; `features` are (B, C, H, W).

    The loss needs only A of a teacher. A is symmetric, and its half is smaller than the map if HW + 1 < 2 C.
    """
    maps = unit(features.flatten(2))
    return maps.transpose(1, 2) @ maps / maps.shape[1]


def neuron_selectivity(student_map: Tensor, teacher_kernel: Tensor) -> Tensor:
    """||A_s - A_t||^2, (B,), of a map (B, C, H, W) and the teacher's `selectivity_kernel` (B, HW, HW).

    It equals k(t, t) + k(s, s) - 2 k(s, t), the maximum mean discrepancy with the polynomial kernel (x' y)^2, k its mean over
    pairs of channels. Channels may differ between the models; heights and widths may not, else InputError: average the larger
    map first.
    Source: Huang, Wang 2017, arXiv 1707.01219, with the polynomial kernel of its code.
    """
    own, theirs = paired("neuron_selectivity", selectivity_kernel(student_map), teacher_kernel)
    return (own - theirs).square().sum(dim=(1, 2))


def _discrepancy(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """`neuron_selectivity` of two maps, by kernels (C, C), which are smaller for large maps."""
    own, theirs = unit(student_map.flatten(2)), unit(teacher_map.detach().flatten(2))
    return _kernel(theirs, theirs) + _kernel(own, own) - 2 * _kernel(own, theirs)


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    """The mean of (x' y)^2 over pairs of channels, (B,), of normalised maps (B, C, HW)."""
    product: Tensor = one @ other.transpose(1, 2)
    return product.square().mean(dim=(1, 2))


def _packed(kernel: Tensor) -> Tensor:
    """The upper half of symmetric matrices (B, n, n) as vectors (B, n (n + 1) / 2) that keep their distances."""
    size = kernel.shape[-1]
    rows, columns = torch.triu_indices(size, size, device=kernel.device)
    lengths = 1 + (2**0.5 - 1) * (rows != columns).to(kernel.dtype)  # an entry off the diagonal stands for two
    packed: Tensor = kernel.flatten(1)[:, rows * size + columns] * lengths
    return packed


class NeuronSelectivity(StagesTerm):
    """Maximum mean discrepancy between the normalised channels of student and teacher, summed over stages."""

    name = "nst"
    section = "nst"
    source = "Huang, Wang 2017, arXiv 1707.01219"
    equation = "sum over stages of ||A_s - A_t||^2,  A = mean_c u_c u_c',  u_c: a channel of length 1"
    weight: float = Field(default=50.0, gt=0, description="weight of the sum over the stages")

    def teacher_tensors(self, features: Answers, other: Shapes) -> Answers:
        """Each stage's kernel, packed, or its map where that has fewer numbers; the larger of two maps is averaged first."""
        return self._asked(features, other, {name: features[name].shape[1] for name in self.stages})

    def student_tensors(self, features: Answers, other: Shapes) -> Answers:
        """Return the student's kernels or maps; the teacher's channels decide which."""
        return self._asked(features, other, {name: other[name][0] for name in self.stages})

    def _asked(self, features: Answers, other: Shapes, channels: Mapping[str, int]) -> Answers:
        """Return kernels or maps; the teacher's `channels` decide, so that a store fits students of any width."""
        found: dict[str, Tensor] = {}
        for name, size in self.sized(features, other):
            if size[0] * size[1] + 1 <= 2 * channels[name]:
                found[f"nst/{name}"] = _packed(selectivity_kernel(averaged(features[name], size)))
            else:
                found |= self.map_tensor(name, size, features)
        return found

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """The sum over stages of the squared distance of both kernels, (B,)."""
        asked = ((self.asked(student, name), self.asked(teacher, name)) for name in self.stages)
        return sum(  # type: ignore[return-value]
            (own - theirs).square().sum(dim=1) if own.ndim == 2 else _discrepancy(own, theirs) for own, theirs in asked
        )

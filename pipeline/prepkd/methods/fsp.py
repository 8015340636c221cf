"""FSP: match the student's flow between stages to the teacher's."""

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field
from torch import Tensor

from prepkd.errors import InputError
from prepkd.methods.kl import paired
from prepkd.methods.maps import StagesTerm, averaged, check_maps
from prepkd.methods.term import Shapes, State
from prepkd.models.features import Answers
from prepkd.settings.section import once


def flow(first: Tensor, last: Tensor) -> Tensor:
    """The mean over positions of the products of two maps' channels, (B, C1, C2), of maps (B, C1, H, W) and (B, C2, H', W').

    The larger map is averaged to the smaller's size first; the paper pools it by maximum.
    Source: Yim et al. 2017, "A Gift from Knowledge Distillation" (CVPR), equation 1.
    """
    size = min(first.shape[2], last.shape[2]), min(first.shape[3], last.shape[3])
    one, other = (averaged(features, size).flatten(2) for features in (first, last))
    return one @ other.transpose(1, 2) / one.shape[-1]


def flow_difference(student_flow: Tensor, teacher_flow: Tensor) -> Tensor:
    """The mean squared difference of two flows (B, C1, C2), of each sample, (B,).

    Raises InputError for unequal channels.
    Source: Yim et al. 2017, "A Gift from Knowledge Distillation" (CVPR), equation 2, as a mean over C1 * C2.
    """
    own, theirs = paired("flow_difference", student_flow, teacher_flow)
    return (own - theirs).square().mean(dim=(1, 2))


class FlowOfSolution(StagesTerm):
    """Mean squared difference of the Gram matrices between stages (flow of solution procedure); needs equal channels."""

    name = "fsp"
    section = "fsp"
    source = "Yim et al. 2017, CVPR"
    equation = "sum over pairs of mean (G_s - G_t)^2,  G = a b' / (H W),  a, b: maps of two stages"
    weight: float = Field(default=50.0, gt=0, description="weight of the sum over the pairs")
    stages: Annotated[list[str], Field(min_length=2), AfterValidator(once)] = Field(
        default=["stem", "stage1", "stage2", "stage3"],
        description="named features of student and teacher, or module paths; each and the next are a pair",
    )

    def adapter(self, student: Shapes, teacher: Shapes, samples: int) -> None:
        """Return None, since nothing is trained; raises InputError if the models' channels differ."""
        for name in self.stages:
            if student[name][0] != teacher[name][0]:
                raise InputError(
                    f"method fsp needs equal channels: {name} has {student[name][0]} in the student and {teacher[name][0]} in "
                    "the teacher; choose another student or other distill.fsp.stages"
                )

    def teacher_tensors(self, features: Answers, other: Shapes) -> Answers:
        """The flow of each pair of stages, (B, C1, C2); sizes of the models' maps may differ."""
        for name in self.stages:
            check_maps("fsp.stages", name, features[name].shape[1:], other[name])
        return {f"fsp/{one}-{two}": flow(features[one], features[two]) for one, two in pairwise(self.stages)}

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """The sum over pairs of the flows' mean squared difference, (B,)."""
        keys = (f"fsp/{one}-{two}" for one, two in pairwise(self.stages))
        return sum(flow_difference(student[key], teacher[key]) for key in keys)  # type: ignore[return-value]

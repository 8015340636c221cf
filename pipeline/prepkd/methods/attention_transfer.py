"""Attention Transfer: match the student's attention maps to the teacher's."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional as F

from prepkd.errors import InputError
from prepkd.methods.kl import upcast
from prepkd.methods.term import FeatureTerm, Shapes, State
from prepkd.models.features import Answers
from prepkd.settings.section import once


def attention_map(features: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean over channels of the squares of a map (B, C, H, W), as a vector of length 1, (B, height * width) of `size`.

    A larger map is averaged to `size` first, as the field's code does. A map of zeros stays zero, with gradient 0.
    Source: Zagoruyko, Komodakis 2017, arXiv 1612.03928, section 3.1.
    """
    pooled = upcast(features)
    if pooled.shape[-2:] != size:  # adaptive pooling has no deterministic gradient on a GPU
        pooled = F.adaptive_avg_pool2d(pooled, size)
    squares = pooled.square().mean(dim=1).flatten(1)
    return squares * squares.square().sum(dim=1, keepdim=True).clamp_min(1e-24).rsqrt()


class AttentionTransfer(FeatureTerm):
    """Mean squared difference of the attention maps of student and teacher, summed over stages."""

    name: ClassVar[str] = "at"
    section: ClassVar[str | None] = "at"
    source: ClassVar[str] = "Zagoruyko, Komodakis 2017, arXiv 1612.03928"
    half: ClassVar[bool] = True  # of length 1: from 0 to 1
    weight: float = Field(default=1000.0, gt=0, description="weight of the sum over the stages")
    stages: Annotated[list[str], Field(min_length=1), AfterValidator(once)] = Field(
        default=["stage1", "stage2", "stage3"], description="named features of student and teacher, or module paths"
    )

    @property
    def features(self) -> tuple[str, ...]:
        """The stages' maps."""
        return tuple(self.stages)

    def asks(self, features: Answers, other: Shapes) -> Answers:
        """Each stage's attention map, in the size of the smaller of both models' maps."""
        for name in self.stages:
            if features[name].ndim != 4 or len(other[name]) != 3:
                found = tuple(features[name].shape[1:]), tuple(other[name])
                raise InputError(f"distill.at.stages has {name!r}: shapes {found[0]} and {found[1]}; expected two maps")
        sizes = {name: tuple(map(min, features[name].shape[-2:], other[name][-2:])) for name in self.stages}
        return {f"at/{name}": attention_map(features[name], (h, w)) for name, (h, w) in sizes.items()}

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """The sum over stages of the mean squared difference of both attention maps, (B,)."""
        return sum(  # type: ignore[return-value]
            (student[key] - teacher[key]).square().mean(dim=1) for key in map("at/{}".format, self.stages)
        )

"""Attention Transfer: match the student's attention maps to the teacher's."""

from pydantic import Field
from torch import Tensor

from prepkd.methods.kl import paired, upcast
from prepkd.methods.maps import StagesTerm, averaged
from prepkd.methods.term import Shapes, State
from prepkd.methods.vectors import unit
from prepkd.models.features import Answers


def attention_map(features: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """The mean over channels of the squares of a map (B, C, H, W), as a vector of length 1, (B, height * width) of `size`.

    A larger map is averaged to `size` first, as the field's code does; the size changes the result. Without a size the map
    keeps its own. A map of zeros stays zero, with gradient 0.
    Source: Zagoruyko, Komodakis 2017, arXiv 1612.03928, section 3.1.
    """
    maps = upcast(features) if size is None else averaged(features, size)
    return unit(maps.square().mean(dim=1).flatten(1))


def attention_transfer(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared difference (B,) of two attention maps (B, positions), as `attention_map` returns them.

    Raises InputError for maps of unequal sizes.
    Source: Zagoruyko, Komodakis 2017, arXiv 1612.03928, section 3.1, with the mean of the authors' code.
    """
    own, theirs = paired("attention_transfer", student_map, teacher_map)
    return (own - theirs).square().mean(dim=1)


class AttentionTransfer(StagesTerm):
    """Mean squared difference of the attention maps of student and teacher, summed over stages."""

    name = "at"
    section = "at"
    source = "Zagoruyko, Komodakis 2017, arXiv 1612.03928"
    equation = "sum over stages of mean (Q_s - Q_t)^2,  Q = mean_c f^2 as a vector of length 1"
    store_dtype = "float16"  # of length 1: from 0 to 1
    weight: float = Field(default=1000.0, gt=0, description="weight of the sum over the stages")

    def teacher_tensors(self, features: Answers, other: Shapes) -> Answers:
        """Each stage's attention map, in the size of the smaller of both models' maps."""
        return {f"at/{name}": attention_map(features[name], size) for name, size in self.sized(features, other)}

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """The sum over stages of the mean squared difference of both attention maps, (B,)."""
        return sum(  # type: ignore[return-value]
            attention_transfer(student[key], teacher[key]) for key in map("at/{}".format, self.stages)
        )

"""Maps of student and teacher: check that both are maps, and average them to a common size."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field
from torch import Size, Tensor
from torch.nn import functional as F

from prepkd.errors import InputError
from prepkd.methods.kl import upcast
from prepkd.methods.term import FeatureTerm, Shapes
from prepkd.models.features import Answers
from prepkd.settings.section import once


def check_maps(key: str, name: str, own: Size, other: Size) -> None:
    """Raise InputError for a named feature whose shape is not (C, H, W) in both models."""
    if len(own) != 3 or len(other) != 3:
        raise InputError(f"distill.{key} has {name!r}: shapes {tuple(own)} and {tuple(other)}; expected two maps")


def averaged(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Average a map (B, C, H, W) to `size`, in float32 or better; a map of that size stays as it is."""
    features = upcast(features)
    height, width = features.shape[-2:]
    if (height, width) == size:
        return features
    if height % size[0] == 0 and width % size[1] == 0:  # adaptive pooling has no deterministic gradient on a GPU
        return F.avg_pool2d(features, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(features, size)


class StagesTerm(FeatureTerm):
    """A loss on maps, summed over stages."""

    stages: Annotated[list[str], Field(min_length=1), AfterValidator(once)] = Field(
        default=["stage1", "stage2", "stage3"], description="named features of student and teacher, or module paths"
    )

    @property
    def features(self) -> tuple[str, ...]:
        """The stages' maps."""
        return tuple(self.stages)

    def sized(self, features: Answers, other: Shapes) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield each stage with the height and width of the smaller of both models' maps; raises InputError if one is no map."""
        for name in self.stages:
            own = features[name]
            check_maps(f"{self.section}.stages", name, own.shape[1:], other[name])
            yield name, (min(own.shape[-2], other[name][-2]), min(own.shape[-1], other[name][-1]))

    def map_tensor(self, name: str, size: tuple[int, int], features: Answers) -> Answers:
        """Return a stage's whole map under the stage's name, shared by terms, or averaged to `size` under the term's name."""
        if features[name].shape[-2:] == size:
            return {name: features[name]}
        return {f"{self.name}/{name}": averaged(features[name], size)}

    def asked(self, answers: Answers, name: str) -> Tensor:
        """Return the term's tensor of a stage, which is under the term's name or the stage's."""
        key = f"{self.name}/{name}"
        return answers[key if key in answers else name]

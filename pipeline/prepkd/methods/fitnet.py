"""FitNets: a trained regressor of the student's map is drawn to the teacher's map, the hint."""

from pydantic import Field
from torch import Size, Tensor, nn

from prepkd.errors import InputError
from prepkd.methods.kl import paired, upcast
from prepkd.methods.maps import check_maps
from prepkd.methods.term import FeatureTerm, Shapes, State
from prepkd.models.features import Answers


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two features of the same shape (B, ...), (B,); raises InputError for unequal shapes.

    Source: Romero et al. 2015, arXiv 1412.6550, with the mean of Tian et al.'s code (arXiv 1910.10699) for half the sum.
    """
    own, theirs = paired("hint", student, teacher)
    return (own - theirs).square().flatten(1).mean(dim=1)


def regressor(student: Size, teacher: Size, *, relu: bool) -> nn.Sequential:
    """Make a convolution from maps of shape (C, H, W) to the teacher's shape, a batch norm and, with `relu`, a ReLU.

    Raises InputError for sizes that one convolution does not map: the teacher's map may be smaller, or twice as large.
    Source: Tian et al., arXiv 1910.10699, code.
    """
    (channels, height, width), (target, target_height, target_width) = student, teacher
    if (height, width) == (2 * target_height, 2 * target_width):
        convolution: nn.Module = nn.Conv2d(channels, target, 3, stride=2, padding=1)
    elif (2 * height, 2 * width) == (target_height, target_width):
        convolution = nn.ConvTranspose2d(channels, target, 4, stride=2, padding=1)
    elif height >= target_height and width >= target_width:
        convolution = nn.Conv2d(channels, target, (1 + height - target_height, 1 + width - target_width))
    else:
        raise InputError(
            f"method fitnet: the student's map is {height}x{width}, the teacher's {target_height}x{target_width}; expected at "
            "least the teacher's size, or half of it; set distill.fitnet.stage"
        )
    return nn.Sequential(convolution, nn.BatchNorm2d(target), *([nn.ReLU()] if relu else []))


class FitNet(FeatureTerm):
    """Mean squared difference of the teacher's map of a stage and a trained convolution of the student's."""

    name = "fitnet"
    section = "fitnet"
    source = "Romero et al. 2015, arXiv 1412.6550"
    equation = "mean (r(f_s) - f_t)^2,  r: a trained convolution"
    loss_only = frozenset({"weight", "relu"})
    stores_features = True
    weight: float = Field(default=100.0, gt=0, description="weight of the term")
    stage: str = Field(default="stage2", description="named feature of student and teacher, or a module path")
    relu: bool = Field(
        default=True,
        description="a ReLU ends the regressor; false for maps with negative values, as wrn_* and mobilenetv2 have",
    )

    @property
    def features(self) -> tuple[str, ...]:
        """The one stage."""
        return (self.stage,)

    def adapter(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        """The regressor; raises InputError if a feature is no map, or for sizes that it cannot map."""
        check_maps("fitnet.stage", self.stage, student[self.stage], teacher[self.stage])
        return regressor(student[self.stage], teacher[self.stage], relu=self.relu)

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """The mean squared difference, (B,)."""
        assert state.adapter is not None
        return hint(state.adapter(upcast(student[self.stage])), teacher[self.stage])

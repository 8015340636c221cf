"""The base of terms on pre-activations: trained connectors map the student's channels to the teacher's."""

from abc import abstractmethod
from typing import Annotated, cast

from pydantic import AfterValidator, Field
from torch import Tensor, nn

from prepkd.errors import InputError
from prepkd.methods.maps import StagesTerm, averaged
from prepkd.methods.term import Shapes, State
from prepkd.models.features import Answers
from prepkd.settings.section import once


class Connector(nn.Sequential):
    """A 1x1 convolution without bias and a batch norm: (B, in_channels, H, W) to (B, channels, H, W).

    The weights are normal with variance 2 / channels, as in the code of both papers that use it: Heo et al. 2019,
    arXiv 1811.03233, and Heo et al. 2019, arXiv 1904.01866.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        nn.init.normal_(cast(nn.Conv2d, self[0]).weight, std=(2 / channels) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map to the other channels; raises InputError if the batch norm would see one value per channel."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            raise InputError(
                "a batch of one sample whose map is 1x1 has no variance, which the connector's batch norm needs; choose a "
                "batch_size that leaves no single sample, or other stages"
            )
        return cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]


class ConnectedTerm(StagesTerm):
    """A loss on pre-activations, summed over stages: the last has weight 1, each earlier one half that of the next."""

    stages: Annotated[list[str], Field(min_length=1), AfterValidator(once)] = Field(
        default=["stage1.pre", "stage2.pre", "stage3.pre"],
        description="pre-activations of student and teacher, or module paths; the last weighs 1, each before it half as much",
    )

    @abstractmethod
    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return values (B,) of the connected student map (B, C, H, W) and the teacher's tensor of the same shape."""

    def adapter(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        """One connector per stage, in their order."""
        return nn.ModuleList(Connector(student[name][0], teacher[name][0]) for name in self.stages)

    def student_tensors(self, features: Answers, other: Shapes) -> Answers:
        """Return each stage's map, averaged to the smaller of both models' sizes."""
        return {f"{self.name}/{name}": averaged(features[name], size) for name, size in self.sized(features, other)}

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """The weighted sum over stages, (B,)."""
        assert isinstance(state.adapter, nn.ModuleList)
        keys = [f"{self.name}/{name}" for name in reversed(self.stages)]
        return sum(  # type: ignore[return-value]
            0.5**i * self.distance(connect(student[key]), teacher[key])
            for i, (key, connect) in enumerate(zip(keys, reversed(state.adapter), strict=True))
        )

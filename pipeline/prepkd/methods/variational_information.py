"""Variational Information Distillation: the student's maps predict the teacher's, with a learnt variance per channel."""

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from prepkd.errors import InputError
from prepkd.methods.kl import paired, upcast
from prepkd.methods.maps import StagesTerm
from prepkd.methods.term import Shapes, State
from prepkd.models.features import Answers

MIN_VARIANCE = 1e-5  # variance
FIRST = 5.0


def variational_information(mean: Tensor, variance: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean over channels and positions of ((m - t)^2 / s^2 + ln s^2) / 2, (B,): it may be negative.

    It is the negative log-likelihood, up to a constant, of the teacher's map t (B, C, H, W) under a normal distribution of
    `mean` m, a function of the student's map, and `variance` s^2 (C,); the best variance is the mean of (m - t)^2.
    Source: Ahn et al. 2019, arXiv 1904.05835, with the means of Tian et al.'s code (arXiv 1910.10699).
    """
    own, theirs = paired("variational_information", mean, teacher_map)
    if variance.shape != own.shape[1:2]:
        raise InputError(
            f"variational_information: variances of shape {tuple(variance.shape)}; expected {tuple(own.shape[1:2])}"
        )
    spread = upcast(variance).view(-1, 1, 1)
    errors = (own - theirs).square()
    return 0.5 * (errors / spread + spread.log()).flatten(1).mean(dim=1)


class Predictor(nn.Module):
    """A network of 1x1 convolutions from the student's channels to the teacher's, and a variance for each of those."""

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(student, teacher, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher, teacher, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher, teacher, 1, bias=False),
        )
        self.scale = nn.Parameter(torch.full((teacher,), math.log(math.expm1(FIRST - MIN_VARIANCE))))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, C, H, W) and variance (C,), at first `FIRST`."""
        return self.mean(features), F.softplus(self.scale) + MIN_VARIANCE


class VariationalInformation(StagesTerm):
    """Negative log-likelihood of the teacher's maps, predicted from the student's, summed over stages."""

    name = "vid"
    section = "vid"
    source = "Ahn et al. 2019, arXiv 1904.05835"
    equation = "sum over stages of mean ((m(f_s) - f_t)^2 / s^2 + ln s^2) / 2,  m and s trained"
    weight: float = Field(default=1.0, gt=0, description="weight of the sum over the stages")

    def teacher_tensors(self, features: Answers, other: Shapes) -> Answers:
        """Each stage's whole map; the larger of two is averaged to the size of the smaller."""
        found: dict[str, Tensor] = {}
        for name, size in self.sized(features, other):
            found |= self.map_tensor(name, size, features)
        return found

    def adapter(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        """One predictor per stage, in their order."""
        return nn.ModuleList(Predictor(student[name][0], teacher[name][0]) for name in self.stages)

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """The sum over stages, (B,)."""
        assert isinstance(state.adapter, nn.ModuleList)
        asked = ((self.asked(student, name), self.asked(teacher, name)) for name in self.stages)
        values: list[Tensor] = []
        for predictor, (own, theirs) in zip(state.adapter, asked, strict=True):
            mean, variance = predictor(upcast(own))
            values.append(variational_information(mean, variance, theirs))
        return torch.stack(values).sum(dim=0)

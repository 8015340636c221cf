"""Dynamic Temperature Distillation (DTD): uncertain samples get a sharper target."""

from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from prepkd.methods.kl import paired, upcast
from prepkd.methods.term import Temperature, Values
from prepkd.settings.section import Section


def flsw_weights(student_logits: Tensor, teacher_logits: Tensor, *, gamma: float) -> Tensor:
    """max(0, 1 - cos(v, t))^gamma of each sample, detached, (B,): large where student and teacher disagree.

    Depends on the logits' shift, so `teacher_logits` must be raw. Rounding makes 1 - cos slightly negative, hence the max.
    Source: Wen et al., arXiv 1911.07471, focal loss style weights (FLSW).
    """
    cosine = F.cosine_similarity(*paired("flsw_weights", student_logits.detach(), teacher_logits), dim=-1)
    return (1 - cosine).clamp_min(0) ** gamma


def cwsm_weights(student_logits: Tensor) -> Tensor:
    """1 / max softmax(v) of each sample, detached, (B,), in [1, K]: large where the student is unsure.

    Source: Wen et al., arXiv 1911.07471, confidence weighted by student max (CWSM).
    """
    return 1 / torch.softmax(upcast(student_logits.detach()), dim=-1).amax(dim=-1)


def unclamped_temperature(weights: Tensor, *, tau_0: float, beta: float) -> Tensor:
    """tau_0 + beta (mean w - w_i), (B,), before its clamp."""
    weights = upcast(weights.detach())
    return tau_0 + beta * (weights.mean() - weights)


def dynamic_temperature(weights: Tensor, *, tau_0: float, beta: float, tau_min: float, tau_max: float) -> Tensor:
    """clamp(tau_0 + beta (mean w - w_i), tau_min, tau_max), detached, (B,).

    Without a floor CWSM's temperature turns negative early in training (w is up to K); without a ceiling float32 loses tau^2 KL.
    Source: Wen et al., arXiv 1911.07471, Dynamic Temperature Distillation.

    >>> dynamic_temperature(torch.tensor([1.0, 3.0]), tau_0=4.0, beta=1.0, tau_min=1.0, tau_max=40.0)
    tensor([5., 3.])
    """
    return unclamped_temperature(weights, tau_0=tau_0, beta=beta).clamp(tau_min, tau_max)


class FLSW(Section):
    """Focal-loss-style weights."""

    beta: float = Field(default=2.0, ge=0)
    gamma: float = Field(default=1.0, gt=0)


class CWSM(Section):
    """Confidence-weighted by the student's maximum."""

    beta: float = Field(default=0.2, ge=0)


class DTD(Section):
    """Dynamic Temperature Distillation: settings of both weightings."""

    section: ClassVar[str | None] = "dtd"
    tau_0: float = Field(default=4.0, gt=0, description="temperature of a sample whose weight is the mean")
    tau_min: float = Field(default=1.0, gt=0, description="smallest temperature")
    tau_max: float = Field(default=40.0, gt=0, description="largest temperature")
    flsw: FLSW = FLSW()
    cwsm: CWSM = CWSM()

    @model_validator(mode="after")
    def _ordered(self) -> "DTD":
        if not self.tau_min <= self.tau_0 <= self.tau_max:
            raise ValueError(
                f"tau_min, tau_0, tau_max are {self.tau_min}, {self.tau_0}, {self.tau_max}; "
                "expected tau_min <= tau_0 <= tau_max"
            )
        return self


class DynamicTemperature(DTD, Temperature):
    """tau_0 + beta (mean w - w_i), clamped; the weighting is the subclass's."""

    source = "Wen et al. 2019, arXiv 1911.07471"

    @property
    def base(self) -> float:
        """`tau_0`."""
        return self.tau_0

    @abstractmethod
    def weights(self, student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, float]:
        """Each sample's weight (B,), and beta: how far weights move the temperature."""

    def temperature(self, student_logits: Tensor, teacher_logits: Tensor) -> tuple[float | Tensor, Values]:
        """Each sample's temperature (B,), logged with the share of samples at a limit."""
        weights, beta = self.weights(student_logits, teacher_logits)
        wanted = unclamped_temperature(weights, tau_0=self.tau_0, beta=beta)
        tau = wanted.clamp(self.tau_min, self.tau_max)
        return tau, {"tau": tau, "tau_clamped": (wanted != tau).float()}


class FlswTemperature(DynamicTemperature):
    """Temperature by the disagreement of student and teacher: w = max(0, 1 - cos(v, t))^gamma."""

    name = "dtd-flsw"
    equation = "tau_i = tau_0 + beta (mean w - w_i),  w = max(0, 1 - cos(v, t))^gamma"
    needs_raw = True
    ignored_settings = frozenset({"cwsm"})
    every_class = "its weight is the cosine of all logits of student and teacher"

    def weights(self, student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, float]:
        """Focal-loss-style weights of raw logits (B, K)."""
        return flsw_weights(student_logits, teacher_logits, gamma=self.flsw.gamma), self.flsw.beta


class CwsmTemperature(DynamicTemperature):
    """Temperature by the student's confidence: w = 1 / max softmax(v)."""

    name = "dtd-cwsm"
    equation = "tau_i = tau_0 + beta (mean w - w_i),  w = 1 / max softmax(v)"
    ignored_settings = frozenset({"flsw"})
    every_class = ""  # the weight is the student's

    def weights(self, student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, float]:
        """Weights by the student's largest probability."""
        return cwsm_weights(student_logits), self.cwsm.beta

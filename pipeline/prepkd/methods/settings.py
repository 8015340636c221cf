"""The methods' own settings in params.yaml."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from prepkd.methods.grammar import METHODS, parse_method
from prepkd.settings.section import Section


def _method(text: str) -> str:
    parse_method(text)
    return text


MethodName = Annotated[
    str,
    AfterValidator(_method),
    WithJsonSchema(
        {"anyOf": [{"enum": list(METHODS)}, {"type": "string", "pattern": r"^dtd-(flsw|cwsm)\+ka-(ps|lsr)$"}]}
    ),
]


class KD(Section):
    """Classic distillation's temperature."""

    tau: float = Field(default=4.0, gt=0)


class KA(Section):
    """Knowledge Adjustment."""

    eps: float = Field(default=0.1, ge=0, le=1)
    lsr_weight: Literal[1, "1/tau"] = 1


class FLSW(Section):
    """Focal-loss-style weights."""

    beta: float = Field(default=2.0, ge=0)
    gamma: float = Field(default=1.0, gt=0)


class CWSM(Section):
    """Confidence-weighted by the student's maximum."""

    beta: float = Field(default=0.2, ge=0)


class DTD(Section):
    """Dynamic Temperature Distillation."""

    tau_0: float = Field(default=4.0, gt=0)
    tau_min: float = Field(default=1.0, gt=0)
    tau_max: float = Field(default=40.0, gt=0)
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

"""The section `distill` of params.yaml."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from prepkd.methods.grammar import Method, parse_method
from prepkd.methods.settings import DTD, KA, KD, MethodName
from prepkd.models.settings import ModelName
from prepkd.settings.section import Seed
from prepkd.teacher.settings import Ensemble
from prepkd.training.settings import Training


def _seeds(seeds: int | list[int]) -> int | list[int]:
    if isinstance(seeds, list) and len(set(seeds)) < len(seeds):
        raise ValueError(f"{seeds} names a seed twice; each seed once")
    return seeds


Seeds = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[list[Seed], Field(min_length=1)],
    AfterValidator(_seeds),
]


class Distill(Training):
    """The student, what it is taught, and from where."""

    teacher: str
    teachers: Annotated[list[str], Field(min_length=1)] | None = None
    ensemble: Ensemble = Ensemble()
    student: ModelName
    method: MethodName = "kd"
    seeds: Seeds = 3
    source: Literal["cached", "online"] = "cached"
    view_order: Literal["cycle", "random"] = "cycle"
    resident_gib: float = Field(default=4.0, ge=0)
    ce_weight: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    kd_weight: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    kd: KD = KD()
    ka: KA = KA()
    dtd: DTD = DTD()

    @model_validator(mode="after")
    def _weights_fit(self) -> "Distill":
        ce_weight, kd_weight = self.weights
        if not self.parsed.teacher and kd_weight > 0:
            raise ValueError(f"method is ce and kd_weight is {kd_weight:g}; without a teacher kd_weight is auto or 0")
        if kd_weight < 0:
            raise ValueError(f"ce_weight is {ce_weight:g} and kd_weight auto is 1 - ce_weight; set kd_weight as well")
        if self.parsed.teacher and kd_weight == 0:
            raise ValueError(
                f"method is {self.method} and kd_weight is 0; a teacher needs kd_weight > 0, or method: ce"
            )
        if ce_weight + kd_weight == 0:
            raise ValueError("ce_weight and kd_weight are both 0; at least one > 0")
        return self

    @property
    def parsed(self) -> Method:
        """The method, parsed."""
        return parse_method(self.method)

    @property
    def weights(self) -> tuple[float, float]:
        """The weights of cross-entropy and distillation, `auto` resolved."""
        ce_weight = self.parsed.ce_weight if self.ce_weight == "auto" else self.ce_weight
        if self.kd_weight != "auto":
            return ce_weight, self.kd_weight
        return ce_weight, 1.0 - ce_weight if self.parsed.teacher else 0.0

    @model_validator(mode="after")
    def _teachers_fit(self) -> "Distill":
        names, weights = self.teacher_names, self.ensemble.weights
        if len(set(names)) < len(names):
            raise ValueError(f"teachers names one twice: {', '.join(names)}; each teacher once")
        if weights is not None and len(weights) != len(names):
            raise ValueError(f"ensemble.weights has {len(weights)} numbers for {len(names)} teachers; one a teacher")
        return self

    @property
    def teacher_names(self) -> list[str]:
        """The teachers whose answers are combined; one unless `teachers` lists more."""
        return [self.teacher] if self.teachers is None else self.teachers

    @property
    def teacher_weights(self) -> list[float]:
        """Each teacher's weight, equal ones where none are given."""
        return self.ensemble.weights or [1.0] * len(self.teacher_names)

    @property
    def teacher_tau(self) -> float:
        """The temperature at which teachers' probabilities are averaged: the method's own, tau_0 with DTD."""
        return self.dtd.tau_0 if self.parsed.temperature else self.kd.tau

    @property
    def seed_list(self) -> list[int]:
        """The seeds to train, in order."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

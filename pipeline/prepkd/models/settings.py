"""Models in params.yaml: their names, and the preprocessing of given weights."""

from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from prepkd.data.samples.preprocessing import INTERPOLATIONS
from prepkd.models.names import problem
from prepkd.models.zoo import MODELS
from prepkd.settings.section import Section, one_of


def _model(name: str) -> str:
    if wrong := problem(name):
        raise ValueError(wrong)
    return name


# Editors complete the zoo's names and accept every name that matches the pattern.
ModelName = Annotated[
    str,
    AfterValidator(_model),
    WithJsonSchema({"anyOf": [{"enum": list(MODELS)}, {"type": "string", "pattern": ":"}]}),
]


class OwnPreprocessing(Section):
    """The preprocessing of published weights, used in place of the training images' statistics."""

    mean: Annotated[list[float], Field(min_length=1)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    size: int | None = Field(default=None, ge=1)
    interpolation: Annotated[str, one_of(INTERPOLATIONS)] = "bilinear"

    @model_validator(mode="after")
    def _same_channels(self) -> "OwnPreprocessing":
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}; expected one per channel in each"
            )
        return self

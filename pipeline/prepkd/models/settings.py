"""Models in params.yaml: names, and the preprocessing of given weights."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from prepkd.models.names import ZOO, problem
from prepkd.settings.section import Section


def _model(name: str) -> str:
    if wrong := problem(name):
        raise ValueError(wrong)
    return name


# Editors complete what is listed, and take for right what has the pattern.
ModelName = Annotated[
    str,
    AfterValidator(_model),
    WithJsonSchema({"anyOf": [{"enum": list(ZOO)}, {"type": "string", "pattern": ":"}]}),
]


class OwnPreprocessing(Section):
    """What a model does to pixels first, where that is not the training images' statistics: those of published weights."""

    mean: Annotated[list[float], Field(min_length=1)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    size: int | None = Field(default=None, ge=1)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @model_validator(mode="after")
    def _same_channels(self) -> "OwnPreprocessing":
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}; expected one a channel in each"
            )
        return self

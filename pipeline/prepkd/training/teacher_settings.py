"""A teacher in params.yaml."""

from typing import Literal

from pydantic import Field, model_validator

from prepkd.models.names import split_name
from prepkd.models.settings import ModelName
from prepkd.settings.section import FilePath, Seed
from prepkd.training.settings import Training
from prepkd.views.settings import RecipeSteps

IMPORTED = "imported"  # in place of a model: `prepkd import` wrote the store, and the project has no model


class Teacher(Training):
    """A teacher: its architecture, and its training or its weights; of an imported store, neither."""

    epochs: int = Field(default=0, ge=0)
    model: ModelName | Literal["imported"]
    weights: FilePath | None = Field(
        default=None, description="a file of weights to start from; with epochs 0 they are final"
    )
    augment: RecipeSteps | None = None
    seed: Seed = 0

    @property
    def imported(self) -> bool:
        """Whether `prepkd import` wrote its store, and the project has no model."""
        return self.model == IMPORTED

    @property
    def keys_without_effect(self) -> frozenset[str]:
        """The settings that do not change a teacher's weights."""
        return frozenset({"checkpoint_every", "evaluate_every"})

    @model_validator(mode="after")
    def _trained_or_given(self) -> "Teacher":
        self.check_origin(self.model)
        if self.imported:
            if self.epochs or self.weights:
                key = "epochs" if self.epochs else "weights"
                raise ValueError(
                    f"model is imported, which has only a store, and {key} is set; remove it or name a model"
                )
            return self
        if self.epochs == 0 and self.weights is None and not split_name(self.model)[2]:
            raise ValueError(
                "epochs is 0 and weights is not set; expected epochs >= 1, a file of weights, or a model that has them"
            )
        return self

"""A generation in params.yaml: a teacher that is distilled from another one."""

from collections.abc import Set
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, create_model, model_validator

from prepkd.distillation.student_settings import Distill
from prepkd.models.settings import ModelName
from prepkd.settings.messages import expected
from prepkd.settings.section import Seed
from prepkd.training.settings import Training

# A generation has one teacher and one seed: DVC tracks the store of its teacher, and its folder holds one model.
SEVERAL = frozenset({"teachers", "ensemble", "seeds"})


class GenerationSettings(Training):
    """A distilled teacher: the settings of one student, with defaults of their own; `distill` changes none of them."""

    teacher: str = Field(description="whose answers it learns from: a key of teachers or generations")
    student: ModelName = Field(description="its model, as for teachers")
    seed: Seed = Field(default=0, description="fixes initialisation, sample order and view order")

    @property
    def model(self) -> str:
        """The name of its model, under the same name as in a teacher's settings."""
        return self.student

    @property
    def as_student(self) -> Distill:
        """The settings of a student with the same training, bit for bit."""
        own = self.model_dump(mode="json", exclude_unset=True, exclude={"seed"})
        return Distill.model_validate(own | {"seeds": [self.seed]})

    @property
    def keys_without_effect(self) -> frozenset[str]:
        """The settings that do not change its weights."""
        return self.as_student.keys_without_effect

    def used(self, *, but: Set[str]) -> dict[str, Any]:
        """The settings that training reads, as JSON, without the keys `but`."""
        return self.as_student.used(but=but | {"seeds"}) | {"seed": self.seed}

    @model_validator(mode="after")
    def _is_a_student(self) -> "GenerationSettings":
        try:
            student = self.as_student
        except ValidationError as error:
            raise ValueError(expected(dict(error.errors()[0]))) from None
        if not student.parsed_method.needs_teacher:
            raise ValueError(
                f"method is {student.method}, which uses no teacher; expected one that does, or a key of teachers"
            )
        return self


if TYPE_CHECKING:
    Generation = GenerationSettings
else:  # with every other setting of `distill`
    Generation = create_model(
        "Generation",
        __base__=GenerationSettings,
        __doc__=GenerationSettings.__doc__,
        **{
            name: (field.annotation, field)
            for name, field in Distill.model_fields.items()
            if name not in SEVERAL | GenerationSettings.model_fields.keys()
        },
    )

"""Augmentations and their parameters' ranges: what one view may do to an image."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prepkd.expected import expected, shown


class Augmentation(BaseModel, ABC):
    """One step of a recipe; a view's row holds one integer in [0, n) for each n of `ranges`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @property
    @abstractmethod
    def ranges(self) -> tuple[int, ...]:
        """How many values each of this step's integers can take."""


class Crop(Augmentation):
    """Pad by `padding` black pixels, then cut the image's size out again at (top, left)."""

    padding: int = Field(default=4, ge=1, le=127)

    @property
    def ranges(self) -> tuple[int, ...]:
        """Top and left offset, each 0 to 2 * padding."""
        return (2 * self.padding + 1, 2 * self.padding + 1)


class Flip(Augmentation):
    """Mirror left and right."""

    @property
    def ranges(self) -> tuple[int, ...]:
        """1 where the image is mirrored."""
        return (2,)


AUGMENTATIONS: dict[str, type[Augmentation]] = {"crop": Crop, "flip": Flip}

Recipe = tuple[tuple[str, Augmentation], ...]


def parse_recipe(steps: Sequence[object]) -> Recipe:
    """Parse `["flip", {"crop": {"padding": 4}}]`; raises ValueError that says which step is wrong and what is allowed."""
    recipe: list[tuple[str, Augmentation]] = []
    for step in steps:
        name, settings = (step, {}) if isinstance(step, str) else _single_entry(step)
        if name not in AUGMENTATIONS:
            raise ValueError(f"has no augmentation {name!r}; allowed: {', '.join(AUGMENTATIONS)}")
        try:
            recipe.append((name, AUGMENTATIONS[name].model_validate({} if settings is None else settings)))
        except ValidationError as error:
            raise ValueError(f"step {name}{_problem(name, dict(error.errors()[0]))}") from None
    return tuple(recipe)


def _problem(name: str, error: dict[str, Any]) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f": unknown key {key}; allowed: {', '.join(AUGMENTATIONS[name].model_fields) or 'none'}"
    return f"{key and f': {key}'} is {shown(error['input'])}; expected {expected(error)}"


def _single_entry(step: object) -> tuple[str, Any]:
    if isinstance(step, Mapping) and len(step) == 1:
        return next(iter(step.items()))
    raise ValueError(f"has the step {shown(step)}; expected a name, or one name with its settings")


def describe_recipe(recipe: Recipe) -> list[dict[str, Any]]:
    """The recipe as JSON-able rows `{name: settings}`, every default written out; `parse_recipe` reads it back."""
    return [{name: step.model_dump()} for name, step in recipe]

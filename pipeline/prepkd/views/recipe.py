"""Recipes: named steps in the order of application, read from settings and written as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from prepkd.settings.messages import expected, shown
from prepkd.views.augmentation import Step
from prepkd.views.crop import Crop
from prepkd.views.cutmix import CutMix
from prepkd.views.erase import Erase
from prepkd.views.flip import Flip
from prepkd.views.mix import Mix
from prepkd.views.mixup import Mixup
from prepkd.views.randaugment import RandAugment
from prepkd.views.resized_crop import ResizedCrop
from prepkd.views.trivial_augment import TrivialAugment

AUGMENTATIONS: dict[str, type[Step]] = {
    "crop": Crop,
    "flip": Flip,
    "resized-crop": ResizedCrop,
    "erase": Erase,
    "randaugment": RandAugment,
    "trivial-augment": TrivialAugment,
    "mixup": Mixup,
    "cutmix": CutMix,
}

Recipe = tuple[tuple[str, Step], ...]


def parse_recipe(steps: Sequence[object]) -> Recipe:
    """Parse `["flip", {"crop": {"padding": 4}}]`; raises ValueError that names the wrong step and the allowed values."""
    recipe: list[tuple[str, Step]] = []
    for step in steps:
        name, settings = (step, {}) if isinstance(step, str) else _single_entry(step)
        if name not in AUGMENTATIONS:
            raise ValueError(f"has no augmentation {name!r}; allowed: {', '.join(AUGMENTATIONS)}")
        try:
            recipe.append((name, AUGMENTATIONS[name].model_validate({} if settings is None else settings)))
        except ValidationError as error:
            raise ValueError(f"step {name}{_problem(name, dict(error.errors()[0]))}") from None
    mixing = [name for name, step in recipe[:-1] if isinstance(step, Mix)]
    if mixing:
        raise ValueError(f"has {mixing[0]} before its last step; expected one step that mixes, at the end")
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
    return [{name: step.model_dump(mode="json")} for name, step in recipe]


def view_side(recipe: Recipe) -> int | None:
    """The side of a recipe's pictures, if a resized crop sets it; None: the images' own size."""
    sides = [step.size for _, step in recipe if isinstance(step, ResizedCrop) and step.size]
    return sides[-1] if sides else None


def takes_any_size(recipe: Recipe) -> int | None:
    """The side of the pictures if the recipe takes images of any size: it starts with a resized crop to a size. Else None."""
    first = recipe[0][1] if recipe else None
    return first.size if isinstance(first, ResizedCrop) else None

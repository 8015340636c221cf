"""The recipe in params.yaml."""

from typing import Annotated, Any

from pydantic import AfterValidator

from prepkd.views.recipe import parse_recipe


def _recipe(steps: list[Any]) -> list[Any]:
    parse_recipe(steps)
    return steps


RecipeSteps = Annotated[list[Any], AfterValidator(_recipe)]

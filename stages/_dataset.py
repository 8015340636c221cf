"""The project's prepared data on the training device."""

from collections.abc import Sequence
from typing import Literal

from prepkd.data.prepared.file import describe
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.read import TrainingViews
from prepkd.data.samples.read import read_dataset as read_prepared
from prepkd.project.params import Params
from prepkd.runtime.devices import choose_device
from prepkd.runtime.streams import Purpose
from prepkd.stages._project import data_file
from prepkd.views import parse_recipe
from prepkd.views.settings import RecipeSteps


def cached_views(params: Params) -> Dataset:
    """Read the project's prepared data with the view plan of its stores."""
    return read_dataset(params, params.cache.views, params.cache.seed, strong=params.augment_strong)


def read_dataset(
    params: Params,
    views: int | Literal["all"],
    seed: int,
    augment: RecipeSteps | None = None,
    purpose: Purpose = Purpose.CACHED_VIEWS,
    strong: Sequence[object] = (),
) -> Dataset:
    """Read the project's prepared data onto the device.

    Training views follow the recipe `augment`, by default the project's, and the recipe `strong` if it has steps. Held-out
    data always follow the project's recipe.
    """
    path = data_file(params)
    describe(path)  # report a missing file before the device is set up
    held_out = parse_recipe(params.augment)
    recipe = held_out if augment is None else parse_recipe(augment)
    device = choose_device(params.threads)
    both = parse_recipe(strong)
    shown = TrainingViews(recipe, views, seed, both, purpose)
    return read_prepared(path, shown, device, held_out_recipe=held_out)

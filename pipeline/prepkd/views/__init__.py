"""Views as data: plans of explicit integers, and rendering a batch from them."""

from prepkd.views.plan import ViewPlan
from prepkd.views.recipe import AUGMENTATIONS, Recipe, describe_recipe, parse_recipe, takes_any_size, view_side

__all__ = [
    "AUGMENTATIONS",
    "Recipe",
    "ViewPlan",
    "describe_recipe",
    "parse_recipe",
    "takes_any_size",
    "view_side",
]

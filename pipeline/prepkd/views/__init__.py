"""Views as data: plans of explicit integers, and rendering a batch from them."""

from prepkd.views.paired_plan import PairedPlan, make_plan, read_plan
from prepkd.views.plan import ViewPlan
from prepkd.views.recipe import AUGMENTATIONS, Recipe, describe_recipe, parse_recipe, takes_any_size, view_side

__all__ = [
    "AUGMENTATIONS",
    "PairedPlan",
    "Recipe",
    "ViewPlan",
    "describe_recipe",
    "make_plan",
    "parse_recipe",
    "read_plan",
    "takes_any_size",
    "view_side",
]

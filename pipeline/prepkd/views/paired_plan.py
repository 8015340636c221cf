"""Plans with two kinds of views of a sample: weak ones, and for each of them a strong partner."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.runtime.streams import Purpose
from prepkd.views.picture import Image
from prepkd.views.plan import ViewPlan
from prepkd.views.recipe import Recipe, describe_recipe, takes_any_size, view_side


class PairedPlan(ViewPlan):
    """The views of two recipes: V weak ones of `recipe`, then V strong ones of `strong`; views v and V + v are partners.

    Strong views are always drawn, from a stream of their own; weak ones may be exhaustive. A row begins with its kind, 0 weak
    or 1 strong, and is padded with zeros to the longer kind's length. Raises ValueError as `ViewPlan` does, for a strong
    recipe without steps, for a recipe that mixes samples, and for recipes whose pictures differ in size.
    """

    kinds: tuple[ViewPlan, ViewPlan]

    def __init__(
        self,
        recipe: Sequence[object] | Recipe,
        views: int | Literal["all"],
        seed: int,
        samples: int,
        strong: Sequence[object] | Recipe,
    ) -> None:
        super().__init__(recipe, views, seed, samples)
        weak = ViewPlan(recipe, views, seed, samples)
        self.kinds = weak, ViewPlan(strong, weak.views, seed, samples, purpose=Purpose.STRONG_VIEWS)
        if not self.strong.recipe:
            raise ValueError("the recipe of strong views has no steps; expected at least one")
        if self.weak.mix or self.strong.mix:
            raise ValueError(
                "one of the recipes mixes samples; weak and strong views show one sample: leave its last step out"
            )
        sizes = [(view_side(plan.recipe), takes_any_size(plan.recipe)) for plan in self.kinds]
        if sizes[0] != sizes[1]:
            raise ValueError(
                "weak and strong views differ in size; expected the same `resized-crop` with its size in both recipes"
            )
        self.views = 2 * self.weak.views
        if self.views >= 2**31:
            raise ValueError(f"views is {views!r}, which makes {self.views} views of two kinds; give a smaller count")
        ranges = np.zeros((2, max(len(plan.ranges) for plan in self.kinds)), np.int64)
        for row, plan in zip(ranges, self.kinds, strict=True):
            row[: len(plan.ranges)] = plan.ranges
        self.ranges = (2, *ranges.max(axis=0).tolist())

    def __repr__(self) -> str:
        made = self.describe()
        own = f"strong={made['strong']!r}, views={made['views']!r}, seed={self.seed}, samples={self.samples}"
        return f"PairedPlan({made['recipe']!r}, {own})"

    @property
    def weak(self) -> ViewPlan:
        """The plan of the weak views."""
        return self.kinds[0]

    @property
    def strong(self) -> ViewPlan:
        """The plan of the strong views, numbered from 0 as the weak ones."""
        return self.kinds[1]

    def columns(self, augmentation: str) -> dict[int, int]:
        """The column at which the first step of that name begins in a row, by the kind of view: 0 weak, 1 strong."""
        found = [plan.columns(augmentation) for plan in self.kinds]
        return {kind: 1 + column for kind, one in enumerate(found) for column in one.values()}

    def parameters(
        self, view: int | NDArray[np.integer[Any]], samples: slice | NDArray[np.integer[Any]] = slice(None)
    ) -> NDArray[Any]:
        """The integers of some samples, shape (len(samples), p), in the plan's dtype; raises IndexError."""
        chosen = np.arange(self.samples)[samples] if isinstance(samples, slice) else np.asarray(samples)
        views = np.asarray(view, dtype=np.int64)
        if views.size and (views.min() < 0 or views.max() >= self.views):
            raise IndexError(f"views {views.min()} to {views.max()} are outside the plan's {self.views} views")
        rows = np.zeros((len(chosen), len(self.ranges)), self.dtype)
        for kind, plan in enumerate(self.kinds):
            here = np.broadcast_to(views // self.weak.views == kind, len(chosen))
            if here.any() or len(chosen) == 0:
                own = views - kind * self.weak.views
                found = plan.parameters(int(own) if own.ndim == 0 else own[here], chosen[here])
                rows[here, 0], rows[here, 1 : 1 + found.shape[1]] = kind, found
        return rows

    def render(
        self,
        images: Tensor | Sequence[Image],
        parameters: Tensor,
        partners: Tensor | Sequence[Image] | None = None,
    ) -> Tensor:
        """Render uint8 images (B, C, H, W) by their rows (B, p), of either kind, to float32 pixels in [0, 1]."""
        found: list[tuple[Tensor, Tensor]] = []
        for kind, plan in enumerate(self.kinds):
            here = (parameters[:, 0] == kind).nonzero()[:, 0]
            own = parameters[:, 1 : 1 + len(plan.ranges)]
            if len(here) == len(parameters):
                return plan.render(images, own)
            some = images[here] if isinstance(images, Tensor) else [images[i] for i in here.tolist()]
            found.append((here, plan.render(some, own[here])))
        order = torch.cat([here for here, _ in found]).argsort()
        return torch.cat([pixels for _, pixels in found])[order]

    def describe(self) -> dict[str, Any]:
        """The plan as JSON: that of its weak views, and the recipe of the strong ones; `read_plan` reads it back."""
        return self.weak.describe() | {"strong": describe_recipe(self.strong.recipe)}


def make_plan(
    recipe: Sequence[object] | Recipe,
    views: int | Literal["all"],
    seed: int,
    samples: int,
    strong: Sequence[object] | Recipe = (),
    *,
    purpose: Purpose = Purpose.CACHED_VIEWS,
) -> ViewPlan:
    """Build a plan of one recipe, or of cached pairs if a recipe of strong views is given; raises ValueError."""
    if strong:
        return PairedPlan(recipe, views, seed, samples, strong)
    return ViewPlan(recipe, views, seed, samples, purpose=purpose)


def read_plan(description: dict[str, Any]) -> ViewPlan:
    """Read a plan of cached views from the result of `describe`; raises ValueError for another version's."""
    if "strong" not in description:
        return ViewPlan.from_description(description)
    weak = ViewPlan.from_description({key: value for key, value in description.items() if key != "strong"})
    return PairedPlan(weak.recipe, description["views"], weak.seed, weak.samples, description["strong"])

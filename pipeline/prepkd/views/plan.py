"""View plans: the integers of view v of sample i."""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prepkd.runtime.files import fingerprint
from prepkd.runtime.streams import Purpose, bounded_integers, raw_words
from prepkd.views.mix import Mix
from prepkd.views.picture import Image
from prepkd.views.recipe import Recipe, describe_recipe, parse_recipe
from prepkd.views.render import render
from prepkd.views.table import table_rows

# Part of every description: raise it when the same arguments make other integers.
PLAN_VERSION = 2


class ViewPlan:
    """The views of a dataset: a pure function of (recipe, seed, view, sample) to a row of integers.

    `views` is a count (each view is drawn independently) or "all" (the recipe's whole table: each sample has each of its V
    rows exactly once in views 0 to V - 1, in an order of its own). A row holds the steps' integers in order; if the last step
    mixes two samples, the partner's index and its own integers come before that step's. Raises ValueError for a count below
    1, an unknown augmentation, or too many views to number.

    `purpose` separates the views drawn with one seed: a teacher is not trained on the cached views.
    """

    recipe: Recipe
    mix: Mix | None
    steps: Recipe
    ranges: tuple[int, ...]
    exhaustive: bool
    views: int
    seed: int
    samples: int
    purpose: Purpose

    def __init__(
        self,
        recipe: Sequence[object] | Recipe,
        views: int | Literal["all"],
        seed: int,
        samples: int,
        *,
        purpose: Purpose = Purpose.CACHED_VIEWS,
    ) -> None:
        steps = [{step[0]: step[1].model_dump()} if isinstance(step, tuple) else step for step in recipe]
        self.recipe = parse_recipe(steps)
        last = self.recipe[-1][1] if self.recipe else None
        self.mix = last if isinstance(last, Mix) else None
        self.steps = self.recipe[:-1] if self.mix else self.recipe
        own = tuple(n for _, step in self.steps for n in step.ranges)
        self.ranges = (*own, samples, *own, *self.mix.ranges) if self.mix else own
        self._own = len(own)
        self.exhaustive = views == "all"
        if self.exhaustive and self.mix:
            raise ValueError(
                "views is 'all', and the recipe mixes samples: too many views to show all; expected a count"
            )
        self.views = prod(self.ranges) if views == "all" else int(views)
        if self.views < 1 or samples < 1:
            raise ValueError(f"views is {views!r} and samples is {samples}; expected views >= 1 or 'all', samples >= 1")
        if self.views >= 2**31:  # views are numbered by the high 32 bits of a word
            raise ValueError(
                f"views is {views!r}, which makes {self.views} views; expected fewer than 2147483648: give a count"
            )
        self.seed, self.samples, self.purpose = seed, samples, purpose

    def __repr__(self) -> str:
        made = self.describe()
        return f"ViewPlan({made['recipe']!r}, views={made['views']!r}, seed={self.seed}, samples={self.samples})"

    @property
    def weak(self) -> "ViewPlan":
        """The plan of the weak views: this plan itself, except for a `PairedPlan`."""
        return self

    @property
    def strong(self) -> "ViewPlan | None":
        """The plan of the strong views, numbered as the weak ones; None if there are none."""
        return None

    def columns(self, augmentation: str) -> dict[int, int]:
        """The column at which the first step of that name begins in a row, by the kind of view: 0 weak, 1 strong."""
        start = 0
        for name, step in self.recipe:
            if name == augmentation:
                return {0: start}
            start += len(step.ranges)
        return {}

    @property
    def dtype(self) -> np.dtype[np.signedinteger[Any]]:
        """The smallest signed type that holds every parameter; its minimum stays free to mean "missing"."""
        return np.min_scalar_type(-max(self.ranges, default=1))  # -n has room for 0 to n - 1 and for the minimum

    def parameters(
        self, view: int | NDArray[np.integer[Any]], samples: slice | NDArray[np.integer[Any]] = slice(None)
    ) -> NDArray[Any]:
        """The integers of some samples, shape (len(samples), p), in the plan's dtype; raises IndexError.

        `view` is one view for all samples, or one per sample, (len(samples),).
        """
        chosen = np.arange(self.samples)[samples] if isinstance(samples, slice) else np.asarray(samples)
        if len(chosen) == 0:
            return np.empty((0, len(self.ranges)), self.dtype)
        low, high = int(chosen.min()), int(chosen.max()) + 1
        if low < 0 or high > self.samples:
            raise IndexError(f"samples {low} to {high - 1} are outside the plan's {self.samples} samples")
        views = np.asarray(view, dtype=np.int64)
        if views.min() < 0 or views.max() >= self.views:
            raise IndexError(f"views {views.min()} to {views.max()} are outside the plan's {self.views} views")
        if not self.ranges:
            return np.empty((len(chosen), 0), self.dtype)
        if self.exhaustive:
            shown = table_rows(self.seed, views, chosen, self.views)
            return np.stack(np.unravel_index(shown, self.ranges), axis=1).astype(self.dtype)
        if views.ndim == 0:
            return self._drawn(int(views), low, high)[chosen - low]
        rows = np.empty((len(chosen), len(self.ranges)), self.dtype)
        for one in np.unique(views):
            here = views == one
            rows[here] = self._drawn(int(one), low, high)[chosen[here] - low]
        return rows

    def _drawn(self, view: int, low: int, high: int) -> NDArray[Any]:
        """Draw the rows of samples `low` to `high`: a fixed number of words per row, row = sample."""
        width = len(self.ranges)
        stream = self.purpose.stream(view)
        words = raw_words(self.seed, stream, low * width, (high - low) * width).reshape(high - low, width)
        return bounded_integers(words, np.array(self.ranges, dtype=np.uint64)).astype(self.dtype)

    def render(
        self,
        images: Tensor | Sequence[Image],
        parameters: Tensor,
        partners: Tensor | Sequence[Image] | None = None,
    ) -> Tensor:
        """Render uint8 images (B, C, H, W) by their rows (B, p) to unnormalised float32 pixels in [0, 1].

        Images of differing sizes are a list of (C, h, w) or decoded images; the recipe must then start with a resized crop to a
        size. `partners` are the images of the samples that `partners()` names, if the recipe mixes. Raises ValueError if they
        are missing.
        """
        pixels = render(self.steps, images, parameters[:, : self._own])
        if self.mix is None:
            return pixels
        if partners is None:
            raise ValueError("the recipe mixes two samples; expected the partners' images as well")
        theirs = parameters[:, self._own + 1 : 2 * self._own + 1]
        return self.mix.blend(pixels, render(self.steps, partners, theirs), self._mixing(parameters))

    def partners(self, parameters: Tensor) -> Tensor | None:
        """The partners of the rows (B, p), int64 (B,); None if the recipe doesn't mix."""
        return parameters[:, self._own].long() if self.mix else None

    def shares(self, parameters: Tensor, size: tuple[int, int]) -> Tensor:
        """The share of the sample's own label in a mixed picture of (height, width), float32 (B,); 1 without mixing."""
        if self.mix is None:
            return parameters.new_ones(len(parameters)).float()
        return self.mix.shares(self._mixing(parameters), size)

    def _mixing(self, parameters: Tensor) -> Tensor:
        return parameters[:, 2 * self._own + 1 :]

    def describe(self) -> dict[str, Any]:
        """The plan as JSON, without its purpose; `ViewPlan.from_description` reads a plan of cached views back."""
        return {
            "recipe": describe_recipe(self.recipe),
            "views": "all" if self.exhaustive else self.views,
            "seed": self.seed,
            "samples": self.samples,
            "version": PLAN_VERSION,
        }

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "ViewPlan":
        """Read the result of `describe` back; raises ValueError for another version's, which would make other views."""
        if description["version"] != PLAN_VERSION:
            raise ValueError(f"views.version is {description['version']}; expected {PLAN_VERSION}")
        if "strong" in description:
            raise ValueError("views.strong is set: a plan of pairs, which prepkd.views.read_plan reads")
        return cls(description["recipe"], description["views"], description["seed"], description["samples"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the plan's description and purpose."""
        return fingerprint(self.describe() | {"purpose": self.purpose})

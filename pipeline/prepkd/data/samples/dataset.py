"""Prepared data under a view plan, on the training device: what all runs on it share."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.views import ViewPlan


@dataclass(frozen=True)
class Dataset:
    """What all seeds and methods share: data, views, preprocessing, class count."""

    samples: Samples
    held_out: Mapping[str, Samples]
    plan: ViewPlan
    preprocessing: Preprocessing
    classes: int

    def labels(self, view: int, part: slice) -> Tensor:
        """The labels of some samples under one view: int64 (B,), or a share of each class (B, K) where views mix samples."""
        return self.samples.targets(self.plan, *self.samples.under(self.plan, view, part), self.classes)

"""Prepared data under a view plan, on the training device."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.views import ViewPlan
from prepkd.views.framing import Framing


@dataclass(frozen=True)
class Dataset:
    """Data, view plan, preprocessing, class count and names, shared by all seeds and methods.

    `origin` is recorded with every result: the data set's name, the fingerprints of the file, the split and the plan, and the
    device.
    """

    samples: Samples
    held_out: Mapping[str, Samples]
    plan: ViewPlan
    preprocessing: Preprocessing
    classes: int
    class_names: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def framing(self) -> Framing:
        """The framing of evaluated images: those of the test split are unchanged, or their centre crops."""
        shown = self.held_out.get("test", self.samples)
        if shown.side:
            return Framing.centred(shown.side)
        height, width = shown.size
        return Framing(height=height, width=width)

    def labels(self, view: int, part: slice) -> Tensor:
        """The labels of a range of samples under one view: int64 (B,), or the share of each class (B, K) if views mix samples."""
        return self.samples.targets(self.plan, *self.samples.view_rows(self.plan, view, part), self.classes)

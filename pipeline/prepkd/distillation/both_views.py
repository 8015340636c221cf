"""A teacher's answers to a weak and a strong view of each sample, for steps that show both."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from prepkd.models.features import STRONG
from prepkd.training.batches import TeacherAnswers
from prepkd.views.order import Views


@dataclass(frozen=True)
class BothViews:
    """Two teachers as one: `weak` answers a sample's weak view, `strong` the strong view of the same number.

    The strong view's answers are named with a prefix, as "strong/logits".
    """

    weak: TeacherAnswers
    strong: TeacherAnswers

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the answers."""
        return (*self.weak.names, *(f"{STRONG}{name}" for name in self.strong.names))

    @property
    def prefetch_depth(self) -> int:
        """The number of epochs to prefetch."""
        return self.weak.prefetch_depth

    def __call__(self, views: Views) -> Mapping[str, Tensor]:
        """Return the answers to both views of every sample, in sample order."""
        return {**self.weak(views), **{f"{STRONG}{name}": value for name, value in self.strong(views).items()}}

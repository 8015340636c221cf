"""A teacher's answers to both views of each sample, where a step shows a weak and a strong one."""

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
        """The number of epochs that it is asked ahead."""
        return self.weak.prefetch_depth

    def __call__(self, views: Views) -> Mapping[str, Tensor]:
        """The answers to both views of every sample, in the order of samples."""
        return {**self.weak(views), **{f"{STRONG}{name}": value for name, value in self.strong(views).items()}}

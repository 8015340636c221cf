"""The base of terms that compare relations between samples: one vector per sample is asked."""

from typing import ClassVar

from pydantic import Field

from prepkd.methods.term import FeatureTerm, Shapes
from prepkd.models.features import Answers


class PooledRelation(FeatureTerm):
    """A loss of the relations between the samples of a batch, each sample one vector.

    The value of a sample is its share: the batch's mean is the published loss of the batch. So it depends on the batch size,
    and the last batch of an epoch, if it is shorter, has relations of fewer samples: its mean weighs as a small batch's
    mean would.
    """

    as_they_are: ClassVar[bool] = True
    feature: str = Field(default="pooled", description="named feature of student and teacher, or a module path")

    @property
    def smallest_batch(self) -> int:
        """Two samples."""
        return 2

    @property
    def features(self) -> tuple[str, ...]:
        """The one feature."""
        return (self.feature,)

    def asks(self, features: Answers, other: Shapes) -> Answers:
        """The feature itself, under its own name: terms that ask the same share it."""
        return {self.feature: features[self.feature]}

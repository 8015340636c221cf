"""The base of terms that compare the samples of a batch with one another, each by one feature."""

from typing import ClassVar

from pydantic import Field

from prepkd.methods.term import FeatureTerm


class BatchRelation(FeatureTerm):
    """A loss on the relations between the samples of a batch, each represented by one feature.

    A sample's value is its share of the loss: the mean over the batch is the published loss. The loss therefore depends on the
    batch size; a shorter last batch of an epoch has fewer relations, and its mean weighs like that of any small batch.
    """

    stores_features: ClassVar[bool] = True
    feature: str = Field(default="pooled", description="named feature of student and teacher, or a module path")

    @property
    def smallest_batch(self) -> int:
        """Two samples."""
        return 2

    @property
    def features(self) -> tuple[str, ...]:
        """The one feature."""
        return (self.feature,)

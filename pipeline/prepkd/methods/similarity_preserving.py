"""Similarity-Preserving distillation: samples that are similar for the teacher are similar for the student."""

from pydantic import Field
from torch import Tensor

from prepkd.methods.batch_relation import BatchRelation
from prepkd.methods.maps import check_maps
from prepkd.methods.term import Shapes, State
from prepkd.methods.vectors import paired_vectors, scaled, unit
from prepkd.models.features import Answers

TUNG = "Tung, Mori 2019, arXiv 1907.09682"


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """Each sample's share (B,) of ||G_s - G_t||^2 / B^2; G = F F' with rows of length 1, F the features flattened (B, D).

    The mean of the shares is the loss of the batch. D may differ between the models. Raises InputError for fewer than two
    samples. Source: Tung, Mori 2019, arXiv 1907.09682.
    """
    own, theirs = (_similarities(rows) for rows in paired_vectors(student, teacher, "similarity_preserving", 2))
    return (own - theirs).square().mean(dim=1)


def _similarities(rows: Tensor) -> Tensor:
    rows = scaled(rows)
    return unit(rows @ rows.T)


class SimilarityPreserving(BatchRelation):
    """Squared difference of both models' similarities between a batch's samples, by the whole last map."""

    name = "sp"
    section = "sp"
    source = TUNG
    equation = "||G_s - G_t||^2 / B^2,  G = F F' with rows of length 1"
    weight: float = Field(default=3000.0, gt=0, description="weight of the term")
    feature: str = Field(
        default="stage3",
        description="last map of student and teacher: stage4 of models with four stages, or a module path",
    )

    def teacher_tensors(self, features: Answers, other: Shapes) -> Answers:
        """The whole map: no smaller tensor of one sample gives its similarity to others."""
        check_maps("sp.feature", self.feature, features[self.feature].shape[1:], other[self.feature])
        return super().teacher_tensors(features, other)

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """Each sample's share, (B,)."""
        return similarity_preserving(student[self.feature], teacher[self.feature])


class PooledSimilarity(BatchRelation):
    """As `sp`, by pooled vectors: a variant without published numbers, since its similarities are others."""

    name = "sp-pooled"
    section = "sp_pooled"
    source = f"variant of {TUNG}"
    equation = "||G_s - G_t||^2 / B^2,  G of pooled vectors"
    weight: float = Field(default=3000.0, gt=0, description="weight of the term")

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """Each sample's share, (B,)."""
        return similarity_preserving(student[self.feature], teacher[self.feature])

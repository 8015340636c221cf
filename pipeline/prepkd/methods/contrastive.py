"""Contrastive Representation Distillation: a sample's embeddings in both models agree, and differ from other samples'."""

from math import inf, log
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from prepkd.data.samples.labels import main_class
from prepkd.errors import InputError
from prepkd.methods.embeddings import Bank, Embeddings
from prepkd.methods.term import FeatureTerm, Shapes, State
from prepkd.methods.vectors import unit
from prepkd.models.features import Answers
from prepkd.runtime.streams import DrawContext

INDEX = "crd/index"


def noise_contrastive(positive: Tensor, negatives: Tensor, samples: int, others: Tensor | None = None) -> Tensor:
    """-ln h+ / (h+ + c) - sum of ln c / (h- + c) over M negatives, of each sample, (B,); c = M / `samples`.

    `positive` (B,) and `negatives` (B, M) are the logarithms of h, `samples` the size of the training set. `others`, bool
    (B, M), marks the negatives that count: M times the mean over them replaces the sum. Raises InputError for other shapes,
    and without a negative.
    Source: Tian et al. 2020, arXiv 1910.10699, equation 18, in the form of the authors' code.
    """
    fits = positive.shape == negatives.shape[:1] and (others is None or others.shape == negatives.shape)
    if not fits or negatives.ndim != 2 or not negatives.shape[1]:
        shapes = [tuple(one.shape) for one in (positive, negatives, others) if one is not None]
        raise InputError(f"noise_contrastive: shapes {shapes}; expected (B,), (B, M) with M > 0, and (B, M)")
    count = negatives.shape[1]
    log_c = log(count / samples)
    costs = -F.logsigmoid(log_c - negatives)
    if others is None:
        total = costs.sum(dim=1)
    else:
        total = torch.where(others, costs, 0.0).sum(dim=1) * count / others.sum(dim=1).clamp_min(1)
    return total - F.logsigmoid(positive - log_c)


def info_nce(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """The cross-entropy of finding each sample's other embedding in the batch, in both directions, (B,).

    Embeddings are (B, D), both trained: gradients flow into both. The candidates are the sample's own and those of other
    classes, labels int64 (B,). Raises InputError for a batch of one class, which has no others.
    Source: van den Oord et al. 2018, arXiv 1807.03748, equation 4.
    """
    found = contrast(student, teacher, labels, temperature=temperature)
    if bool((labels == labels[0]).all()):
        raise InputError("info_nce contrasts samples of different classes: a batch of one class; expected two or more")
    return found


def contrast(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """`info_nce` without the check for a batch of one class, which would synchronise a GPU; such a batch gives 0."""
    if student.shape != teacher.shape or labels.shape != student.shape[:1]:
        found = f"shapes {tuple(student.shape)} and {tuple(teacher.shape)}, labels {tuple(labels.shape)}"
        raise InputError(f"info_nce compares student and teacher: {found}; expected the same, and a label per sample")
    if len(student) < 2:
        raise InputError("info_nce contrasts the samples of a batch: a batch of one sample; expected two or more")
    own, theirs = unit(student), unit(teacher)
    same = (labels.unsqueeze(1) == labels).fill_diagonal_(False)
    scores = (own @ theirs.T / temperature).masked_fill(same, -inf)
    agreeing = scores.diagonal()
    return scores.logsumexp(dim=1) + scores.logsumexp(dim=0) - 2 * agreeing


class ContrastiveRepresentation(FeatureTerm):
    """Contrastive loss between the models' embeddings: a sample's own against those of samples of other classes."""

    name = "crd"
    section = "crd"
    source = "Tian et al. 2020, arXiv 1910.10699"
    equation = "-ln h+ / (h+ + M/N) - sum over M negatives of ln (M/N) / (h- + M/N),  h = exp(e e' / 0.07) / Z"
    drawn = (INDEX,)
    loss_only = frozenset({"weight", "negatives", "count", "dim", "temperature", "momentum"})
    stores_features = True
    weight: float = Field(default=0.8, gt=0, description="weight of the term")
    feature: str = Field(default="pooled", description="named feature of student and teacher, or a module path")
    negatives: Literal["bank", "batch"] = Field(
        default="bank",
        description="embeddings of other samples: remembered ones (the paper), or those in the batch (InfoNCE)",
    )
    count: int = Field(default=16384, ge=1, description="negatives drawn from the bank per batch")
    dim: int = Field(default=128, ge=1, description="length of the embeddings")
    temperature: float = Field(default=0.07, gt=0, description="divides the similarities of embeddings")
    momentum: float = Field(default=0.5, ge=0, lt=1, description="share of a remembered embedding that an update keeps")

    @property
    def smallest_batch(self) -> int:
        """Two samples if they are each other's negatives, else one."""
        return 2 if self.negatives == "batch" else 1

    @property
    def features(self) -> tuple[str, ...]:
        """The one feature."""
        return (self.feature,)

    def adapter(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        """The embeddings and the bank; raises InputError if the feature is not a vector in both models."""
        shapes = student[self.feature], teacher[self.feature]
        if any(len(shape) != 1 for shape in shapes):
            found = f"shapes {tuple(shapes[0])} and {tuple(shapes[1])}"
            raise InputError(f"distill.crd.feature is {self.feature!r}: {found}; expected two vectors")
        sizes = shapes[0][0], shapes[1][0], self.dim
        return Bank(*sizes, samples) if self.negatives == "bank" else Embeddings(*sizes)

    def draw(self, at: DrawContext) -> dict[str, NDArray[Any]]:
        """Each sample's row in the bank: its index."""
        return {INDEX: np.arange(at.samples)}

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        """The sum of both directions, (B,); a bank then stores the embeddings."""
        assert isinstance(state.adapter, Embeddings)
        embeddings, classes = state.adapter(student[self.feature], teacher[self.feature]), main_class(labels)
        if not isinstance(state.adapter, Bank):
            return contrast(embeddings[0], embeddings[1], classes, temperature=self.temperature)
        bank, index = state.adapter, state.drawn[INDEX]
        positive, negatives, others = bank.compare(
            embeddings, index, classes, count=self.count, temperature=self.temperature, momentum=self.momentum
        )
        first, second = (
            noise_contrastive(one, many, samples=len(bank.labels), others=others)
            for one, many in zip(positive, negatives, strict=True)
        )
        return first + second

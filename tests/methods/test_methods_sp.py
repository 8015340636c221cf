"""Similarity-Preserving distillation: against loops, its missing invariances, and the definition of the pooled variant."""

import math

import pytest
import torch
from prepkd.errors import InputError
from prepkd.losses import similarity_preserving
from prepkd.methods.similarity_preserving import PooledSimilarity, SimilarityPreserving
from prepkd.methods.term import State
from torch import Size, Tensor

STATE, LABELS = State(torch.zeros(())), torch.zeros(5, dtype=torch.int64)


def maps(seed: int, channels: int = 3, size: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, channels, size, size, generator=generator, dtype=torch.float64)


def similarities(features: Tensor) -> list[list[float]]:
    rows = features.flatten(1).tolist()
    found = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in rows] for one in rows]
    return [[value / math.sqrt(sum(v**2 for v in row)) for value in row] for row in found]


def test_it_is_the_loops() -> None:
    student, teacher = maps(0), maps(1, 7, 3)
    own, theirs = similarities(student), similarities(teacher)
    shares = [sum((s - t) ** 2 for s, t in zip(*rows, strict=True)) / 5 for rows in zip(own, theirs, strict=True)]
    found = similarity_preserving(student, teacher)
    assert found.tolist() == pytest.approx(shares, rel=1e-9)
    norm = sum((s - t) ** 2 for rows in zip(own, theirs, strict=True) for s, t in zip(*rows, strict=True))
    assert float(found.mean()) == pytest.approx(norm / 5**2, rel=1e-9), "the published loss of the batch"


def test_the_scale_of_one_sample_changes_the_rows_of_others() -> None:
    student, teacher = maps(0), maps(1)
    scaled = student.clone()
    scaled[0] *= 3
    changed = (similarity_preserving(scaled, teacher) - similarity_preserving(student, teacher)).abs()
    assert (changed > 1e-4).all()


def test_the_term_asks_the_whole_map_and_the_pooled_variant_is_another_loss() -> None:
    student, teacher = maps(0), maps(1)
    whole = SimilarityPreserving()
    features = [{"stage3": values, "pooled": values.mean((2, 3))} for values in (student, teacher)]
    shapes = {name: values.shape[1:] for name, values in features[1].items()}
    own, theirs = (whole.teacher_tensors(found, shapes) for found in features)
    assert {key: tuple(value.shape) for key, value in theirs.items()} == {"stage3": (5, 3, 2, 2)}
    torch.testing.assert_close(whole.loss(own, theirs, LABELS, STATE), similarity_preserving(student, teacher))
    pooled = PooledSimilarity()
    own, theirs = (pooled.teacher_tensors(found, shapes) for found in features)
    assert {key: tuple(value.shape) for key, value in theirs.items()} == {"pooled": (5, 3)}
    others = pooled.loss(own, theirs, LABELS, STATE)
    assert float((others - similarity_preserving(student, teacher)).abs().max()) > 0.01


def test_a_vector_is_not_sp() -> None:
    term = SimilarityPreserving(feature="pooled")
    with pytest.raises(
        InputError, match=r"distill.sp.feature has 'pooled': shapes \(3,\) and \(3,\); expected two maps"
    ):
        term.teacher_tensors({"pooled": torch.zeros(1, 3)}, {"pooled": Size((3,))})

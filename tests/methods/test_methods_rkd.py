"""Relational KD: against loops over pairs and triples, and where naive code loses precision or its gradient."""

import math

import pytest
import torch
from prepkd.errors import InputError
from prepkd.losses import relational
from torch import Tensor


def vectors(seed: int, samples: int = 4, size: int = 3) -> Tensor:
    return torch.randn(samples, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def huber(difference: float) -> float:
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def distances(rows: list[list[float]]) -> list[list[float]]:
    found = [[math.dist(one, other) for other in rows] for one in rows]
    positive = [value for row in found for value in row if value > 0]
    mean = sum(positive) / len(positive)
    return [[value / mean for value in row] for row in found]


def cosine(rows: list[list[float]], i: int, j: int, k: int) -> float:
    """Return the cosine of the angle at i between j and k."""
    one, other = ([b - a for a, b in zip(rows[i], rows[end], strict=True)] for end in (j, k))
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0


def by_hand(student: Tensor, teacher: Tensor, distance: float, angle: float) -> list[float]:
    own, theirs = student.tolist(), teacher.tolist()
    count, far, near = len(own), distances(own), distances(theirs)
    places = range(count)
    return [
        distance * sum(huber(far[i][j] - near[i][j]) for j in places) / count
        + angle * sum(huber(cosine(own, i, j, k) - cosine(theirs, i, j, k)) for j in places for k in places) / count**2
        for i in places
    ]


@pytest.mark.parametrize(("distance", "angle"), [(25.0, 50.0), (1.0, 0.0), (0.0, 2.0)])
def test_it_is_the_loops(distance: float, angle: float) -> None:
    student, teacher = vectors(0), vectors(1, size=5)
    student[3] = student[1]  # equal rows have no direction, and their distance is left out of the mean
    found = relational(student, teacher, distance=distance, angle=angle)
    assert found.tolist() == pytest.approx(by_hand(student, teacher, distance, angle), rel=1e-9)


def test_the_batchs_mean_is_the_mean_over_all_pairs_and_triples() -> None:
    own, theirs = vectors(0).tolist(), vectors(1).tolist()
    places = range(4)
    pairs = sum(huber(distances(own)[i][j] - distances(theirs)[i][j]) for i in places for j in places) / 4**2
    triples = [(i, j, k) for i in places for j in places for k in places]
    angles = sum(huber(cosine(own, *triple) - cosine(theirs, *triple)) for triple in triples) / 4**3
    found = relational(vectors(0), vectors(1), distance=25.0, angle=50.0).mean()
    assert float(found) == pytest.approx(25 * pairs + 50 * angles, rel=1e-9)


def test_an_offset_of_all_samples_does_not_matter() -> None:
    """The Gram form of squared distances loses its digits under a large offset."""
    features = vectors(0, 8, 16)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        moved = features.to(dtype) + 1000
        assert float(relational(moved, features.to(dtype), distance=25.0, angle=50.0).max()) < tolerance


def test_equal_rows_leave_the_gradient_of_the_others() -> None:
    student = vectors(0, 5).float()
    student[1] = student[0]
    leaf = student.requires_grad_()
    relational(leaf, vectors(1, 5).float(), distance=0.0, angle=1.0).mean().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None and leaf.grad.isfinite().all()
    assert (leaf.grad.abs().amax(1) > 0).all() and float(leaf.grad.abs().max()) < 10


def test_settings_out_of_their_domain_are_refused() -> None:
    for wrong in ({"distance": -1.0, "angle": 1.0}, {"distance": 1.0, "angle": float("nan")}):
        with pytest.raises(InputError, match="relational"):
            relational(vectors(0), vectors(1), **wrong)

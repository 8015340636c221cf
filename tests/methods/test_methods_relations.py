"""Contract of the losses of a batch's relations: per-sample shares, equivariance, rotation, finite gradients."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from prepkd.errors import InputError
from prepkd.losses import correlation_congruence, pkt, relational, similarity_preserving
from prepkd.methods.terms import TERMS
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "sp": similarity_preserving,
    "rkd": partial(relational, distance=25.0, angle=50.0),
    "pkt": pkt,
    "cc": partial(correlation_congruence, gamma=0.4, order=2),
}
each = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def vectors(seed: int, samples: int = 5, size: int = 4) -> Tensor:
    return torch.randn(samples, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(vectors(9, size, size)).Q


def gradient(loss: Loss, student: Tensor, teacher: Tensor) -> Tensor:
    """Return the gradient of the batch's mean at the student's features."""
    leaf = student.clone().requires_grad_()
    loss(leaf, teacher).mean().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return leaf.grad


@each
def test_equal_features_have_no_loss_and_no_gradient(loss: Loss) -> None:
    features = vectors(0)
    assert float(loss(features, features).abs().max()) < 1e-15
    # pkt's published constants leave 1e-7 of a gradient.
    assert float(gradient(loss, features, features).abs().max()) < (1e-7 if loss is pkt else 1e-12)
    assert float(loss(vectors(0), vectors(1)).abs().min()) > 1e-4


@each
def test_a_rotated_and_scaled_student_is_as_good(loss: Loss) -> None:
    student, teacher = vectors(0), vectors(1, size=7)
    turned = 3 * student @ rotation(4)
    torch.testing.assert_close(loss(turned, teacher), loss(student, teacher))
    torch.testing.assert_close(loss(student, teacher @ rotation(7) / 5), loss(student, teacher))


@each
def test_the_order_of_the_batch_moves_the_shares_with_it(loss: Loss) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    student, teacher = vectors(0), vectors(1)
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher)[order])


@each
def test_a_wrong_row_between_right_ones_is_seen(loss: Loss) -> None:
    """A public form of CC compares neighbours in the batch, and gives 0 if every second row is right."""
    teacher = vectors(0, 6)
    student = teacher.clone()
    student[::2] = vectors(1, 3)
    assert (loss(student, teacher) > 1e-5).all()


@each
def test_maps_are_flattened_and_the_teacher_has_no_gradient(loss: Loss) -> None:
    maps = vectors(0, 5, 12).view(5, 3, 2, 2)
    teacher = vectors(1).requires_grad_()
    found = loss(maps.clone().requires_grad_(), teacher)
    torch.testing.assert_close(found.detach(), loss(maps.flatten(1), teacher.detach()))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None


@each
def test_rows_of_zeros_and_equal_rows_have_bounded_gradients(loss: Loss) -> None:
    """Naive code gives NaN or 1e10 here: dead features, and the same image twice in a batch."""
    teacher = vectors(1, 6).float()
    for dtype in (torch.float32, torch.bfloat16):
        student = vectors(0, 6).to(dtype)
        student[0] = 0
        student[1] = student[2]
        found = gradient(loss, student, teacher)
        assert found.isfinite().all() and float(found.abs().max()) < 1e3
        for dead in (torch.zeros_like(student), torch.ones_like(student)):
            assert loss(dead, teacher).isfinite().all() and loss(student, dead).isfinite().all()
            found = gradient(loss, dead, teacher)
            assert found.isfinite().all() and float(found.abs().max()) < 1e3


@each
@pytest.mark.parametrize("scale", [1e-8, 8000.0, 1e25])
def test_large_and_small_features_neither_over_nor_underflow(loss: Loss, scale: float) -> None:
    student, teacher = vectors(0).float(), vectors(1).float()
    found = loss(scale * student, scale * teacher)
    torch.testing.assert_close(found, loss(student, teacher), rtol=1e-4, atol=1e-6)
    assert gradient(loss, scale * student, scale * teacher).isfinite().all()
    assert loss(student.bfloat16(), teacher.half()).dtype == torch.float32


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_relations_is_refused(name: str) -> None:
    least = TERMS[name]().smallest_batch
    with pytest.raises(InputError, match=f"expected the same {least} or more, found {least - 1} of the student and "):
        LOSSES[name](vectors(0, least - 1), vectors(1, least - 1))
    with pytest.raises(InputError, match="found 5 of the student and 4 of the teacher"):
        LOSSES[name](vectors(0), vectors(1, 4))
    assert LOSSES[name](vectors(0, least), vectors(1, least)).abs().min() > 0


def test_what_a_short_batch_means() -> None:
    """pkt falls as 1 / B and rkd does not: a smaller last batch, or another batch size, changes the terms' relative weights."""
    means = {
        name: [float(loss(vectors(0, count, 16), vectors(1, count, 16)).mean()) for count in (32, 128)]
        for name, loss in LOSSES.items()
    }
    ratio = {name: small / large for name, (small, large) in means.items()}
    assert 3 < ratio["pkt"] < 5 and 2.5 < ratio["sp"] < 5
    assert 0.8 < ratio["rkd"] < 1.25 and 0.8 < ratio["cc"] < 1.25

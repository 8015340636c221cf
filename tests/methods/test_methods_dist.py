"""DIST: against loops in float64, its invariance to affine changes, and small or zero spread."""

from collections.abc import Sequence

import pytest
import torch
from divergences import LABELS, gradient, logits, of_objective
from naive_losses import softmax
from prepkd.errors import InputError
from prepkd.losses import dist
from torch import Tensor


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    a, b = ([x - sum(values) / len(values) for x in values] for values in (a, b))
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def halves(student: Tensor, teacher: Tensor, tau: float) -> tuple[list[float], float]:
    """Return 1 - rho of each row, and the mean over the columns of 1 - rho."""
    p_s, p_t = ([softmax(row, tau) for row in values.tolist()] for values in (student, teacher))
    rows = [1 - pearson(a, b) for a, b in zip(p_s, p_t, strict=True)]
    columns = [1 - pearson(a, b) for a, b in zip(zip(*p_s, strict=True), zip(*p_t, strict=True), strict=True)]
    return rows, sum(columns) / len(columns)


@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(5, 6), (2, 3), (4, 100)])
def test_both_halves_are_the_loops(tau: float, shape: tuple[int, int]) -> None:
    student, teacher = logits(0, *shape), logits(1, *shape)
    rows, columns = halves(student, teacher, tau)
    assert dist(student, teacher, tau=tau, beta=1.0, gamma=0.0).tolist() == pytest.approx([tau**2 * r for r in rows])
    shares = dist(student, teacher, tau=tau, beta=0.0, gamma=1.0)
    assert float(shares.mean()) == pytest.approx(tau**2 * columns), "the shares' mean is the loss of the batch"
    both = dist(student, teacher, tau=tau, beta=2.0, gamma=3.0)
    assert float(both.mean()) == pytest.approx(tau**2 * (2 * sum(rows) / len(rows) + 3 * columns))


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("shape", [(4, 100), (64, 100)])
def test_an_equal_student_has_no_loss_and_no_gradient(dtype: torch.dtype, most: float, shape: tuple[int, int]) -> None:
    """The authors add 1e-8 to the product of two small norms, which leaves a loss of 0.019 in a batch of 4 here."""
    teacher = (logits(0, *shape) / 3).to(dtype)
    student = teacher.clone().requires_grad_()
    loss = dist(student, teacher, tau=4.0, beta=1.0, gamma=1.0)
    assert float(loss.detach().mean()) == pytest.approx(0, abs=most)
    assert float(gradient(loss.mean(), student).abs().max()) < most


def test_a_positive_affine_change_of_a_row_leaves_the_rows_half_and_of_a_column_the_columns() -> None:
    """The changes are made to probabilities, whose logits at tau 1 are their logarithms, and keep each row's sum at 1."""
    student, teacher = torch.softmax(logits(0), -1), torch.softmax(logits(1), -1)
    scale = torch.tensor([0.9, 0.5, 0.2, 0.7, 0.4]).double().unsqueeze(1)
    row_wise = scale * teacher + (1 - scale) / 6
    rows = {"tau": 1.0, "beta": 1.0, "gamma": 0.0}
    torch.testing.assert_close(dist(student.log(), row_wise.log(), **rows), dist(student.log(), teacher.log(), **rows))
    columns = {"tau": 1.0, "beta": 0.0, "gamma": 1.0}
    constant = torch.tensor([0.3, 0.1, 0.2, 0.2, 0.15, 0.05]).double()
    column_wise = 0.6 * teacher + 0.4 * constant
    found = dist(student.log(), column_wise.log(), **columns)
    torch.testing.assert_close(found, dist(student.log(), teacher.log(), **columns))
    assert not torch.allclose(
        dist(student.log(), column_wise.log(), **rows), dist(student.log(), teacher.log(), **rows)
    )


def test_the_spread_of_a_rare_class_counts_like_any_other() -> None:
    """Probabilities of 1e-30: their squares are 0 in float32, their correlation is not."""
    teacher = logits(1).float()
    teacher[:, 0] -= 70
    loss = dist(teacher, teacher, tau=1.0, beta=0.0, gamma=1.0)
    assert float(loss.mean().abs()) < 1e-5


def test_a_classifier_that_begins_at_zero_has_a_moderate_gradient() -> None:
    """Uniform rows have no correlation; the authors' code has gradients of 1e4 here."""
    student = torch.zeros(16, 100, requires_grad=True)
    loss = dist(student, logits(1, 16, 100).float(), tau=4.0, beta=1.0, gamma=1.0)
    torch.testing.assert_close(loss.detach(), torch.full((16,), 32.0))
    slopes = gradient(loss.mean(), student).abs().max()
    assert 0 < float(slopes) < 1e3


def test_rows_of_two_classes_show_the_sign_alone() -> None:
    student, teacher = logits(0, 5, 2), logits(1, 5, 2)
    rows = dist(student, teacher, tau=1.0, beta=1.0, gamma=0.0)
    agree = student.argmax(1) == teacher.argmax(1)
    torch.testing.assert_close(rows, torch.where(agree, 0.0, 2.0).double())


def test_the_rows_alone_take_a_batch_of_one_and_a_temperature_for_each_sample() -> None:
    student, teacher, tau = logits(0), logits(1), torch.linspace(1, 9, 5).double()
    rows = dist(student, teacher, tau=tau, beta=1.0, gamma=0.0)
    for i, one in enumerate(tau.tolist()):
        alone = dist(student[i : i + 1], teacher[i : i + 1], tau=one, beta=1.0, gamma=0.0)
        torch.testing.assert_close(alone[0], rows[i])
    with pytest.raises(InputError, match="dist: gamma > 0 and a temperature per sample"):
        dist(student, teacher, tau=tau, beta=1.0, gamma=1.0)


def test_the_settings_weigh_both_halves() -> None:
    student, teacher = logits(0), logits(1)
    found = of_objective("dist", student, teacher, LABELS, dist={"beta": 0.5, "gamma": 3.0}, kd={"tau": 2.0})["kd"]
    torch.testing.assert_close(found, dist(student, teacher, tau=2.0, beta=0.5, gamma=3.0))

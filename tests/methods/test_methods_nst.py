"""Neuron Selectivity Transfer: against loops over pairs of channels; the term reads only the teacher's kernel."""

import math

import pytest
import torch
from prepkd.losses import neuron_selectivity, selectivity_kernel
from prepkd.methods.neuron_selectivity import NeuronSelectivity
from prepkd.methods.term import State
from torch import Tensor

STATE, LABELS = State(torch.zeros(())), torch.zeros(2, dtype=torch.int64)


def maps(seed: int, channels: int = 4, size: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, size, size, generator=generator, dtype=torch.float64)


def mean_kernel(one: list[list[float]], other: list[list[float]]) -> float:
    """Return the mean over pairs of channels of the squared cosine of their maps."""
    values = [
        (sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)) ** 2
        for a in one
        for b in other
    ]
    return sum(values) / len(values)


def by_hand(student: Tensor, teacher: Tensor) -> list[float]:
    pairs = zip(student.flatten(2).tolist(), teacher.flatten(2).tolist(), strict=True)
    return [mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(s, t) for s, t in pairs]


def term_loss(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> tuple[Tensor, dict[str, tuple[int, ...]]]:
    """Return the term's values, and the shapes of the teacher tensors that it reads."""
    term = NeuronSelectivity(stages=list(student))
    shapes = [{name: values.shape[1:] for name, values in features.items()} for features in (student, teacher)]
    own, theirs = term.student_tensors(student, shapes[1]), term.teacher_tensors(teacher, shapes[0])
    return term.loss(own, theirs, LABELS, STATE), {key: tuple(value.shape[1:]) for key, value in theirs.items()}


def test_it_is_the_loops() -> None:
    student, teacher = maps(0), maps(1, channels=7)
    found = neuron_selectivity(student, selectivity_kernel(teacher))
    assert found.tolist() == pytest.approx(by_hand(student, teacher), rel=1e-9)


@pytest.mark.parametrize(
    ("student", "teacher", "size", "asked"),
    [
        (4, 7, 2, {"nst/a": (10,)}),
        (2, 7, 2, {"nst/a": (10,)}),
        (7, 2, 2, {"a": (2, 2, 2)}),
        (3, 3, 3, {"a": (3, 3, 3)}),
        (5, 6, 3, {"nst/a": (45,)}),
    ],
)
def test_the_term_asks_the_smaller_of_kernel_and_map_and_has_the_same_loss(
    student: int, teacher: int, size: int, asked: dict[str, tuple[int, ...]]
) -> None:
    own, theirs = maps(0, student, size), maps(1, teacher, size)
    found, shapes = term_loss({"a": own}, {"a": theirs})
    assert shapes == asked
    assert found.tolist() == pytest.approx(by_hand(own, theirs), rel=1e-9)


def test_stages_are_summed_and_the_larger_map_is_averaged_first() -> None:
    student, teacher = {"a": maps(0, size=4), "b": maps(1, 2)}, {"a": maps(2), "b": maps(3, 2, size=6)}
    pooled = torch.nn.functional.avg_pool2d(student["a"], 2), torch.nn.functional.avg_pool2d(teacher["b"], 3)
    expected = zip(by_hand(pooled[0], teacher["a"]), by_hand(student["b"], pooled[1]), strict=True)
    found, shapes = term_loss(student, teacher)
    assert shapes == {"nst/a": (10,), "nst/b": (2, 2, 2)}, "a kernel for the teacher's four channels, a map for its two"
    assert found.tolist() == pytest.approx([sum(values) for values in expected], rel=1e-9)


def test_order_and_positive_scale_of_channels_do_not_matter() -> None:
    student, teacher = maps(0), selectivity_kernel(maps(1))
    plain = neuron_selectivity(student, teacher)
    scales = torch.tensor([0.1, 1.0, 5.0, 1e3]).view(-1, 1, 1)
    for same in (student.flip(1), scales * student, student.repeat(1, 3, 1, 1)):
        torch.testing.assert_close(neuron_selectivity(same, teacher), plain)


def test_equal_kernels_have_no_loss_and_no_gradient() -> None:
    student = maps(0).requires_grad_()
    found = neuron_selectivity(student, selectivity_kernel(maps(0).repeat(1, 2, 1, 1)))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert float(found.detach().abs().max()) < 1e-15
    assert student.grad is not None and float(student.grad.abs().max()) < 1e-12


@pytest.mark.parametrize("channels", [4, 2])
def test_dead_channels_and_extremes_have_finite_gradients(channels: int) -> None:
    """The gradients pass through kernels, or through maps if these are smaller."""
    for dtype, scale in ((torch.float32, 1.0), (torch.bfloat16, 8000.0), (torch.float32, 1e25)):
        student = (scale * maps(0, channels)).to(dtype)
        student[:, 0] = 0
        leaf = student.requires_grad_()
        found, _ = term_loss({"a": leaf}, {"a": maps(1, channels).float()})
        found.sum().backward()  # type: ignore[no-untyped-call]
        assert found.dtype == torch.float32 and found.isfinite().all()
        assert leaf.grad is not None and leaf.grad.isfinite().all() and float(leaf.grad.abs().max()) < 10
        assert float(leaf.grad[:, 0].abs().max()) == 0

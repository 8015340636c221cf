"""FSP: against loops in float64, its invariants, and its refusals."""

from typing import Any

import pytest
import torch
from feature_losses import answers, asked_names, loss, objective, randn, settings
from prepkd.errors import InputError
from prepkd.losses import flow, flow_difference
from prepkd.methods.fsp import FlowOfSolution
from torch import Tensor

STAGES = ["a", "b", "c"]
CHANNELS = {"a": 2, "b": 3, "c": 4}
SIZES = {"a": (4, 4), "b": (4, 4), "c": (2, 2)}


def maps(seed: int, samples: int = 2, **sizes: Any) -> dict[str, Tensor]:
    made = SIZES | sizes
    return {name: randn(samples, CHANNELS[name], *made[name], seed=seed + i) for i, name in enumerate(STAGES)}


def term(**changes: Any) -> FlowOfSolution:
    return FlowOfSolution(**{"stages": STAGES} | changes)


def pooled_by_hand(sample: list[list[list[float]]], size: int) -> list[list[list[float]]]:
    """Average a map (C, H, W) over squares, to (C, size, size)."""
    factor = len(sample[0]) // size
    steps = range(factor)
    return [
        [
            [sum(c[i * factor + k][j * factor + m] for k in steps for m in steps) / factor**2 for j in range(size)]
            for i in range(size)
        ]
        for c in sample
    ]


def flow_by_hand(first: Tensor, last: Tensor) -> list[list[list[float]]]:
    size = min(first.shape[-1], last.shape[-1])
    flows = []
    for one, two in zip(first.tolist(), last.tolist(), strict=True):
        a, b = pooled_by_hand(one, size), pooled_by_hand(two, size)
        places = [(i, j) for i in range(size) for j in range(size)]
        flows.append([[sum(x[i][j] * y[i][j] for i, j in places) / len(places) for y in b] for x in a])
    return flows


def test_the_loss_is_the_loops() -> None:
    student, teacher = maps(0), maps(10)
    expected = [0.0, 0.0]
    for one, two in (("a", "b"), ("b", "c")):
        own, theirs = flow_by_hand(student[one], student[two]), flow_by_hand(teacher[one], teacher[two])
        torch.testing.assert_close(flow(student[one], student[two]), torch.tensor(own, dtype=torch.float64))
        for i in range(2):
            squares = [
                (s - t) ** 2
                for row, other in zip(own[i], theirs[i], strict=True)
                for s, t in zip(row, other, strict=True)
            ]
            expected[i] += sum(squares) / len(squares)
    assert loss(term(), student, teacher).tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(
        flow_difference(flow(student["b"], student["c"]), flow(teacher["b"], teacher["c"])),
        loss(term(stages=["b", "c"]), student, teacher),
    )


def test_the_larger_map_is_averaged_whichever_it_is() -> None:
    large, small = randn(2, 3, 8, 8, seed=0), randn(2, 4, 2, 2, seed=1)
    pooled = torch.nn.functional.avg_pool2d(large, 4)
    torch.testing.assert_close(flow(large, small), flow(pooled, small))
    torch.testing.assert_close(flow(small, large), flow(pooled, small).transpose(1, 2))


def test_equal_features_have_no_loss_and_no_gradient() -> None:
    features = maps(0)
    student = {name: values.clone().requires_grad_() for name, values in features.items()}
    found = loss(term(), student, features)
    found.sum().backward()
    assert float(found.detach().abs().max()) == 0
    assert all(float(values.grad.abs().max()) == 0 for values in student.values())  # type: ignore[union-attr]


def test_the_order_of_positions_and_a_scale_moved_between_the_maps_do_not_matter() -> None:
    first, last = randn(2, 3, 4, 4, seed=0), randn(2, 5, 4, 4, seed=1)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))

    def moved(features: Tensor) -> Tensor:
        return features.flatten(2)[:, :, order].view_as(features)

    plain = flow(first, last)
    torch.testing.assert_close(flow(moved(first), moved(last)), plain)
    torch.testing.assert_close(flow(3 * first, last / 3), plain)
    assert (flow(moved(first), last) - plain).abs().max() > 0.1
    # If the larger map is averaged first, moving positions mixes values of different squares.
    small = randn(2, 5, 2, 2, seed=3)
    assert (flow(moved(first), small) - flow(first, small)).abs().max() > 0.1


def test_maps_of_other_sizes_are_compared_and_other_channels_refused() -> None:
    student, teacher = maps(0), maps(10, a=(8, 8), b=(8, 8), c=(4, 4))
    assert loss(term(), student, teacher).shape == (2,)
    other = teacher | {"b": randn(2, 7, 8, 8, seed=5)}
    with pytest.raises(InputError) as caught:
        objective("fsp", student, other, fsp={"stages": STAGES})
    assert str(caught.value) == (
        "method fsp needs equal channels: b has 3 in the student and 7 in the teacher; choose another student or other "
        "distill.fsp.stages"
    )
    with pytest.raises(
        InputError, match=r"distill.fsp.stages has 'c': shapes \(4,\) and \(4, 2, 2\); expected two maps"
    ):
        loss(term(), student | {"c": student["c"].mean(dim=(2, 3))}, teacher | {"c": student["c"]})
    with pytest.raises(ValueError, match="at least 2 items"):
        term(stages=["a"])


def test_a_batch_of_one_zeros_half_precision_and_large_values_are_finite() -> None:
    dead = {name: torch.zeros_like(values).requires_grad_() for name, values in maps(0, samples=1).items()}
    loss(term(), dead, maps(5, samples=1)).sum().backward()
    assert all(values.grad.isfinite().all() for values in dead.values())  # type: ignore[union-attr]
    half = {name: (values * 100).bfloat16().requires_grad_() for name, values in maps(0).items()}
    found = loss(term(), half, {name: values.float() for name, values in maps(5).items()})
    assert found.dtype == torch.float32 and found.isfinite().all()
    found.sum().backward()
    assert all(values.grad.isfinite().all() for values in half.values())  # type: ignore[union-attr]


def test_the_teacher_has_no_gradient() -> None:
    teacher = {name: values.requires_grad_() for name, values in maps(5).items()}
    student = {name: values.requires_grad_() for name, values in maps(0).items()}
    loss(term(), student, teacher).sum().backward()
    assert all(values.grad is None for values in teacher.values()) and student["a"].grad is not None


@pytest.mark.parametrize("method", ["fsp", "kd+fsp", "ka-ps+dtd-flsw+fsp"])
def test_the_objective_adds_it_with_its_weight(method: str) -> None:
    student, teacher = maps(0), maps(10)
    made = objective(method, student, teacher, fsp={"stages": STAGES, "weight": 7.0})
    assert asked_names(made) == ("fsp/a-b", "fsp/b-c") and not list(made.parameters())
    logits, labels = randn(2, 2, seed=7), torch.tensor([0, 1])  # two classes
    values = made(student | {"logits": logits}, labels, answers(made, teacher, randn(2, 2, seed=8)))
    expected = loss(term(), student, teacher)
    torch.testing.assert_close(values["fsp"], expected)
    ce, kd = settings(method).loss_weights
    rest = ce * values["ce"] + kd * values.get("kd", torch.zeros(2))
    torch.testing.assert_close(values["loss"], rest + 7 * expected)

"""AB and OFD: against loops in float64, their invariants, the margins, and the traps of public code."""

import math
from typing import Any

import pytest
import torch
from feature_losses import answers, loss, objective, randn, settings, shapes
from prepkd.errors import InputError
from prepkd.losses import activation_boundary, margin_relu, negative_mean, overhaul
from prepkd.methods.activation_boundaries import ActivationBoundaries
from prepkd.methods.connected import ConnectedTerm, Connector
from prepkd.methods.overhaul import Overhaul
from torch import Tensor, nn

STAGES = ["a", "b"]


def maps(seed: int, channels: int = 3, samples: int = 2, size: int = 4) -> dict[str, Tensor]:
    return {
        "a": randn(samples, channels, size, size, seed=seed),
        "b": randn(samples, 2 * channels, size // 2, size // 2, seed=seed + 1),
    }


def with_norms(features: dict[str, Tensor], seed: int = 20) -> dict[str, Tensor]:
    """Add the weights and biases of their batch norms to a teacher's maps."""
    affine = {
        f"{name}/affine": randn(2, values.shape[1], seed=seed).expand(len(values), -1, -1)
        for name, values in features.items()
    }
    return features | affine


def same() -> nn.ModuleList:
    """Return connectors that change nothing."""
    return nn.ModuleList([nn.Identity(), nn.Identity()])


def made(kind: type[ConnectedTerm], **changes: Any) -> ConnectedTerm:
    return kind(**{"stages": STAGES} | changes)


def elements(*tensors: Tensor) -> list[tuple[float, ...]]:
    return list(zip(*(one.flatten().tolist() for one in tensors), strict=True))


def boundary_by_hand(student: Tensor, teacher: Tensor, margin: float) -> float:
    total = 0.0
    for s, t in elements(student, teacher):
        if t > 0 and s <= margin:
            total += (s - margin) ** 2
        if t <= 0 and s > -margin:
            total += (s + margin) ** 2
    return total


def overhaul_by_hand(student: Tensor, teacher: Tensor, margins: list[float]) -> float:
    total = 0.0
    for c, m in enumerate(margins):
        for s, t in elements(student[c], teacher[c]):
            target = max(t, m)
            if s > target or target > 0:
                total += (s - target) ** 2
    return total


def margin_by_hand(weight: float, bias: float) -> float:
    """Return the mean of the negative part of a normal distribution, by summing its density."""
    std, steps = abs(weight), 20_000
    low = min(0.0, bias) - 12 * std
    width = -low / steps
    xs = [low + (i + 0.5) * width for i in range(steps)]
    densities = [math.exp(-(((x - bias) / std) ** 2) / 2) for x in xs]
    return math.fsum(x * d for x, d in zip(xs, densities, strict=True)) / math.fsum(densities)


def test_activation_boundaries_are_the_loops() -> None:
    student, teacher = maps(0), maps(10)
    found = loss(made(ActivationBoundaries, margin=0.7), student, teacher, adapter=same())
    for i in range(2):
        expected = 0.5 * boundary_by_hand(student["a"][i], teacher["a"][i], 0.7)
        expected += boundary_by_hand(student["b"][i], teacher["b"][i], 0.7)
        assert float(found[i]) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(
        activation_boundary(student["a"], teacher["a"] > 0, margin=0.7),
        loss(
            made(ActivationBoundaries, margin=0.7, stages=["a"]),
            student,
            teacher,
            adapter=nn.ModuleList([nn.Identity()]),
        ),
    )


def test_the_overhaul_is_the_loops() -> None:
    student, teacher = maps(0), with_norms(maps(10))
    found = loss(made(Overhaul), student, teacher, adapter=same())
    margins = {name: negative_mean(*teacher[f"{name}/affine"][0]).tolist() for name in STAGES}
    for i in range(2):
        expected = 0.5 * overhaul_by_hand(student["a"][i], teacher["a"][i], margins["a"])
        expected += overhaul_by_hand(student["b"][i], teacher["b"][i], margins["b"])
        assert float(found[i]) == pytest.approx(expected, rel=1e-12)


def test_boundaries_are_kept_at_a_margin_with_the_teachers_sign_and_nowhere_else() -> None:
    teacher = randn(2, 5, seed=0)
    kept = torch.where(teacher > 0, 1.0, -1.0).double()
    for values in (kept, 5 * kept):
        values = values.clone().requires_grad_()
        found = activation_boundary(values, teacher > 0, margin=1.0)
        found.sum().backward()
        assert float(found.detach().abs().max()) == 0 and float(values.grad.abs().max()) == 0  # type: ignore[union-attr]
    assert (activation_boundary(0.9 * kept, teacher > 0, margin=1.0) > 0).all()
    # The teacher's own values lie within the margin.
    assert (activation_boundary(teacher, teacher > 0, margin=1.0) > 0).all()


def test_of_the_teacher_only_signs_count() -> None:
    student, teacher, term = maps(0), maps(10), made(ActivationBoundaries)
    plain = loss(term, student, teacher, adapter=same())
    for change in (torch.sign, torch.relu, lambda x: 1e6 * x):
        changed = {name: change(values) for name, values in teacher.items()}
        assert torch.equal(loss(term, student, changed, adapter=same()), plain)
    asked = term.teacher_tensors(teacher, shapes(student))
    assert {values.dtype for values in asked.values()} == {torch.bool}


def test_a_student_on_the_target_or_below_a_negative_one_has_no_loss_and_no_gradient() -> None:
    teacher = with_norms(maps(10))
    target = made(Overhaul).teacher_tensors(teacher, shapes(maps(0)))["ofd/a"]
    below = torch.where(target <= 0, target - 3, target)
    for values in (target, below):
        student = values.clone().requires_grad_()
        found = overhaul(student, target)
        found.sum().backward()
        assert float(found.detach().abs().max()) == 0 and float(student.grad.abs().max()) == 0  # type: ignore[union-attr]
    assert (overhaul(target + 0.1, target) > 0).all()


@pytest.mark.parametrize("weight", [0.5, -0.5, 2.0])
@pytest.mark.parametrize("ratio", [-6.0, -1.0, 0.0, 0.5, 2.0, 3.0])
def test_a_margin_is_the_mean_of_the_negative_part(weight: float, ratio: float) -> None:
    bias = ratio * abs(weight)
    found = negative_mean(torch.tensor([weight]), torch.tensor([bias]))
    assert float(found) == pytest.approx(margin_by_hand(weight, bias), rel=1e-5) and float(found) < 0


def test_margins_of_rare_negatives_and_of_constants() -> None:
    """In float32, with 1 + erf, the margin at 5 standard deviations is positive; a weight of 0 divides by zero."""
    found = negative_mean(
        torch.tensor([2.0, 1.0, 0.0, 0.0, 0.0, 1e-30]), torch.tensor([10.0, 40.0, -0.5, 0.0, 0.5, 1.0])
    )
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([-6.0, -3.0, -0.5, 0.0, 0.0, -3e-30])
    # The margin jumps where negatives become rarer than one in a thousand.
    near = negative_mean(torch.ones(2), torch.tensor([3.09, 3.10]))
    assert float(near[0]) > -0.3 and float(near[1]) == -3
    assert negative_mean(torch.tensor([1.0]), torch.tensor([-300.0])).item() == -300


def test_the_margin_is_a_floor_per_channel() -> None:
    values, margins = randn(2, 3, 2, 2, seed=0), torch.tensor([-0.1, -0.5, 0.0])
    found = margin_relu(values, margins)
    for c, m in enumerate(margins.double().tolist()):
        assert found[:, c].flatten().tolist() == [max(x, m) for x in values[:, c].flatten().tolist()]
    assert margin_relu(values.bfloat16(), margins.double()).dtype == torch.float32


TEACHERS = {ActivationBoundaries: maps, Overhaul: lambda *given, **named: with_norms(maps(*given, **named))}


@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.parametrize("sizes", [(8, 4), (4, 8)])
def test_the_larger_map_is_averaged_and_channels_are_connected(
    kind: type[ConnectedTerm], sizes: tuple[int, int]
) -> None:
    student, teacher = maps(0, channels=5, size=sizes[0]), TEACHERS[kind](10, size=sizes[1])
    term = made(kind)
    asked, own = term.teacher_tensors(teacher, shapes(student)), term.student_tensors(student, shapes(teacher))
    assert {name: tuple(values.shape[2:]) for name, values in asked.items()} == {
        f"{term.name}/a": (4, 4),
        f"{term.name}/b": (2, 2),
    }
    torch.testing.assert_close(
        own[f"{term.name}/a"],
        torch.nn.functional.avg_pool2d(student["a"], sizes[0] // 4) if sizes[0] > 4 else student["a"],
    )
    adapter = term.adapter(shapes(student), shapes(teacher), 0).double()
    assert loss(term, student, teacher, adapter=adapter).shape == (2,)


def test_connectors_are_of_the_papers_shape_and_initialisation() -> None:
    torch.manual_seed(0)
    connector = Connector(256, 64)
    convolution, norm = connector[0], connector[1]
    assert isinstance(convolution, nn.Conv2d) and convolution.bias is None and isinstance(norm, nn.BatchNorm2d)
    # 16,384 draws: a standard deviation is off by 1 / sqrt(2 * 16,384) = 0.6 %.
    assert float(convolution.weight.detach().std()) == pytest.approx(math.sqrt(2 / 64), rel=0.03)
    # From resnet32x4 to resnet8x4: the parameter count of the literature.
    sizes = {f"stage{i}.pre": torch.Size((c, 8, 8)) for i, c in ((1, 64), (2, 128), (3, 256))}
    adapter = Overhaul().adapter(sizes, sizes, 0)
    assert sum(values.numel() for values in adapter.parameters()) == 86_912


@pytest.mark.parametrize("kind", TEACHERS)
def test_no_gradient_of_the_teacher_and_finite_ones_at_extremes(kind: type[ConnectedTerm]) -> None:
    term = made(kind)
    for scale, dtype in ((1.0, torch.float64), (8000.0, torch.float32), (100.0, torch.bfloat16), (0.0, torch.float32)):
        student = {name: (scale * values).to(dtype).requires_grad_() for name, values in maps(0).items()}
        teacher = {name: (100 * values).to(dtype).requires_grad_() for name, values in TEACHERS[kind](10).items()}
        adapter = term.adapter(shapes(student), shapes(teacher), 0).to(
            torch.float32 if dtype != torch.float64 else dtype
        )
        found = loss(term, student, teacher, adapter=adapter)
        assert found.isfinite().all() and found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        found.sum().backward()
        trained = [*student.values(), *adapter.parameters()]
        assert all(values.grad is not None and values.grad.isfinite().all() for values in trained)
        assert all(values.grad is None for values in teacher.values())


def test_vectors_one_value_per_channel_and_a_norm_that_is_none_are_refused() -> None:
    vectors = {"a": randn(2, 3, seed=0)}
    for kind in (ActivationBoundaries, Overhaul):
        with pytest.raises(InputError, match=rf"distill.{kind.name}.stages has 'a': .* expected two maps"):
            loss(made(kind, stages=["a"]), maps(0), with_norms(vectors), adapter=same())
    with pytest.raises(InputError, match="a batch of one sample whose map is 1x1 has no variance"):
        Connector(3, 4)(torch.zeros(1, 3, 1, 1))
    Connector(3, 4)(torch.zeros(1, 3, 2, 2))
    Connector(3, 4).eval()(torch.zeros(1, 3, 1, 1))
    with pytest.raises(InputError, match="margin"):
        activation_boundary(vectors["a"], vectors["a"] > 0, margin=0.0)


def test_the_margins_are_asked_of_the_teacher_alone() -> None:
    terms = settings("ofd").terms
    names = ("stage1.pre", "stage2.pre", "stage3.pre")
    assert terms.student_features == names
    assert terms.teacher_features == (*names, *(f"{name}/affine" for name in names))
    assert settings("ab").terms.teacher_features == names


@pytest.mark.parametrize("method", ["ab", "ofd", "ka-ps+dtd-flsw+ab", "ka-ps+dtd-flsw+ofd", "kd+ab+ofd"])
def test_the_objective_adds_them_with_their_weights(method: str) -> None:
    student, teacher = maps(0, channels=5), with_norms(maps(10))
    own = {name: {"stages": STAGES} for name in ("ab", "ofd")}
    both = objective(method, student, teacher, **own)
    logits, labels = randn(2, 2, seed=7), torch.tensor([0, 1])  # two classes
    values = both(student | {"logits": logits}, labels, answers(both, teacher, randn(2, 2, seed=8)))
    ce, kd = settings(method).loss_weights
    expected = ce * values["ce"] + kd * values.get("kd", torch.zeros(2))
    for name, weight in (("ab", 0.003), ("ofd", 0.001)):
        if name in method.split("+"):
            assert (values[name] > 0).all()
            expected = expected + weight * values[name]
    torch.testing.assert_close(values["loss"], expected)

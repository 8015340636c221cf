"""Attention transfer: against loops in float64, its invariants, and through a whole run with a live teacher."""

import math
from typing import Any

import pytest
import torch
from feature_losses import asked_names, teacher_tensors_of
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.attention_transfer import AttentionTransfer, attention_map
from prepkd.methods.objective import Objective
from prepkd.methods.term import State
from torch import Tensor

STATE = State(torch.zeros(()))


def maps(seed: int, channels: int = 3, size: int = 4, samples: int = 2) -> Tensor:
    return torch.randn(samples, channels, size, size, generator=torch.Generator().manual_seed(seed)).double()


def by_hand(features: Tensor) -> list[list[float]]:
    """Return each sample's map with loops: the mean of squares over channels, divided by its length."""
    rows = []
    for sample in features.tolist():
        size = len(sample[0])
        squares = [
            sum(channel[i][j] ** 2 for channel in sample) / len(sample) for i in range(size) for j in range(size)
        ]
        length = math.sqrt(sum(value**2 for value in squares))
        rows.append([value / length for value in squares])
    return rows


def term(**changes: Any) -> AttentionTransfer:
    return AttentionTransfer(**{"stages": ["a", "b"]} | changes)


def loss(student: dict[str, Tensor], teacher: dict[str, Tensor], chosen: AttentionTransfer | None = None) -> Tensor:
    chosen = chosen or term()
    shapes = [{name: values.shape[1:] for name, values in features.items()} for features in (student, teacher)]
    own, theirs = chosen.teacher_tensors(student, shapes[1]), chosen.teacher_tensors(teacher, shapes[0])
    return chosen.loss(own, theirs, torch.zeros(2, dtype=torch.int64), STATE)


def test_maps_and_loss_are_the_loops() -> None:
    student = {"a": maps(0), "b": maps(1, channels=5, size=2)}
    teacher = {"a": maps(2, channels=7), "b": maps(3, channels=5, size=2)}
    torch.testing.assert_close(attention_map(student["a"], (4, 4)), torch.tensor(by_hand(student["a"])).double())
    expected = [0.0, 0.0]
    for name in student:
        for i, (own, theirs) in enumerate(zip(by_hand(student[name]), by_hand(teacher[name]), strict=True)):
            expected[i] += sum((s - t) ** 2 for s, t in zip(own, theirs, strict=True)) / len(own)
    assert loss(student, teacher).tolist() == pytest.approx(expected, rel=1e-9)


def test_scale_sign_and_order_of_channels_do_not_matter() -> None:
    plain = attention_map(maps(0), (4, 4))
    for same in (3 * maps(0), -maps(0), maps(0).flip(1)):
        torch.testing.assert_close(attention_map(same, (4, 4)), plain)


def test_equal_maps_have_no_loss_and_a_value_is_at_most_two_per_position() -> None:
    features = {"a": maps(0), "b": maps(1)}
    assert float(loss(features, features).abs().max()) == 0
    far = loss({"a": maps(0), "b": maps(1)}, {"a": maps(4), "b": maps(5)})
    assert (far > 0).all() and (far <= 2 * 2 / 16).all()


def test_a_larger_map_is_averaged_before_it_is_squared() -> None:
    large = maps(0, size=8)
    pooled = torch.nn.functional.avg_pool2d(large, 2)
    torch.testing.assert_close(attention_map(large, (4, 4)), attention_map(pooled, (4, 4)))
    student, teacher = {"a": large, "b": maps(1)}, {"a": maps(2), "b": maps(3)}
    torch.testing.assert_close(loss(student, teacher), loss({"a": pooled, "b": maps(1)}, teacher))
    torch.testing.assert_close(loss(teacher, student), loss(teacher, {"a": pooled, "b": maps(1)}))


def test_a_map_of_zeros_has_no_gradient_and_half_precision_is_computed_in_float32() -> None:
    dead = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss({"a": dead, "b": maps(1).float()}, {"a": maps(2).float(), "b": maps(3).float()}).sum().backward()
    assert dead.grad is not None and float(dead.grad.abs().max()) == 0
    assert attention_map(maps(0).half() * 100, (4, 4)).dtype == torch.float32


def test_vectors_and_a_stage_twice_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"distill.at.stages has 'a': shapes \(3,\) and \(3, 4, 4\); expected two maps"
    ):
        loss({"a": maps(0)[:, :, 0, 0], "b": maps(1)}, {"a": maps(2), "b": maps(3)})
    with pytest.raises(ValueError, match="names 'a' twice; expected each once"):
        term(stages=["a", "a"])


def settings(method: str = "at", **changes: Any) -> Distill:
    wanted = {"teacher": "t", "student": "resnet8", "epochs": 2, "method": method, "source": "online", "batch_size": 16}
    return Distill.model_validate(wanted | {"precision": "float32", "lr": 0.05} | changes)


def test_weights_of_auto_and_what_is_refused() -> None:
    assert settings().loss_weights == (1.0, 0.0)
    assert settings("kd+at").loss_weights == (0.1, 0.9)
    assert settings("ka-ps+at").loss_weights == (0.0, 1.0)
    assert settings("dkd+at").loss_weights == (1.0, 1.0)
    for changes, words in (
        ({"teachers": ["t", "u"]}, "compares features .* with those of one teacher; teachers names 2"),
        ({"kd_weight": 0.5}, "without a divergence, such as kd, kd_weight is auto or 0"),
    ):
        with pytest.raises(ValueError, match=words):
            settings(**changes)


def test_the_objective_adds_it_with_its_weight() -> None:
    shapes = {f"stage{i}": torch.Size((3, 4, 4)) for i in (1, 2, 3)}
    chosen = settings("kd+at", at={"weight": 50.0})
    objective = Objective(chosen.terms, shapes, shapes)
    assert objective.features == ("stage1", "stage2", "stage3")
    assert asked_names(objective) == ("at/stage1", "at/stage2", "at/stage3")
    features = [{f"stage{i}": maps(10 * k + i) for i in (1, 2, 3)} for k in (0, 1)]
    labels, logits = torch.tensor([0, 1]), maps(7)[:, 0, 0]
    teacher = {"logits": logits - logits.amax(1, keepdim=True), "row_max": logits.amax(1)}
    student = features[0] | {"logits": maps(8)[:, 0, 0]}
    values = objective(student, labels, teacher | dict(teacher_tensors_of(objective, features[1])))
    expected = loss(features[0], features[1], AttentionTransfer())
    torch.testing.assert_close(values["at"], expected)
    without = Objective(settings("kd").terms)(student, labels, teacher)
    torch.testing.assert_close(values["loss"], without["loss"] + 50 * expected)

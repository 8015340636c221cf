"""Every feature term through the objective: its weight, half-precision gradients, teacher tensors, short batches."""

from typing import Any

import pytest
import torch
from feature_losses import asked_names, teacher_tensors_of
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.objective import Objective
from prepkd.methods.term import FeatureTerm
from prepkd.methods.terms import TERMS
from prepkd.methods.vectors import unit
from prepkd.training.trial import try_student
from small_training import COUNT, DATASET
from torch import Size, Tensor

NAMES = ["at", "fitnet", "nst", "sp", "sp-pooled", "rkd", "pkt", "vid", "cc"]
STUDENT = {"stage1": Size((4, 8, 8)), "stage2": Size((6, 4, 4)), "stage3": Size((8, 2, 2)), "pooled": Size((8,))}
TEACHER = {"stage1": Size((6, 8, 8)), "stage2": Size((8, 4, 4)), "stage3": Size((10, 2, 2)), "pooled": Size((10,))}
LABELS = torch.tensor([0, 1, 1, 0])


def answers(
    seed: int, shapes: dict[str, Size], dtype: torch.dtype = torch.float32, classes: int = 2
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    wanted = {"logits": (classes,), **shapes}
    return {
        name: (3 * torch.randn(len(LABELS), *shape, generator=generator)).to(dtype) for name, shape in wanted.items()
    }


def settings(method: str, **changes: Any) -> Distill:
    small = {"teacher": "t", "student": "resnet8", "epochs": 1, "method": method, "source": "online"}
    return Distill.model_validate(small | {"batch_size": 16, "precision": "float32"} | changes)


def objective(method: str) -> Objective:
    torch.manual_seed(1)
    return Objective(settings(method).terms, STUDENT, TEACHER, COUNT)


def told(made: Objective, teacher: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a teacher's answers: its logits as stored, and the tensors that the terms read from its features."""
    top = teacher["logits"].amax(1, keepdim=True)
    asked = dict(teacher_tensors_of(made, teacher))
    assert tuple(asked) == asked_names(made)
    return {"logits": teacher["logits"] - top, "row_max": top.squeeze(1), **asked}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("logits", ["kd", "ka-ps+dtd-flsw"])
def test_it_is_added_with_its_weight_to_any_method(name: str, logits: str) -> None:
    made = objective(f"{logits}+{name}")
    student, teacher = answers(0, STUDENT), answers(1, TEACHER)
    values = made(student, LABELS, told(made, teacher))
    without = objective(logits)(student, LABELS, told(made, teacher))
    assert values[name].shape == (4,)
    weight = made.terms.feature_terms[0].weight
    torch.testing.assert_close(values["loss"], without["loss"] + weight * values[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1.0, 0.0, 1000.0])
def test_half_precision_and_zeros_give_finite_gradients(name: str, scale: float) -> None:
    made = objective(name)
    leaves = {key: (scale * value).requires_grad_() for key, value in answers(0, STUDENT, torch.bfloat16).items()}
    values = made(leaves, LABELS, told(made, answers(1, TEACHER)))
    assert values[name].dtype == torch.float32
    values["loss"].mean().backward()  # type: ignore[no-untyped-call]
    read = [leaves[key] for key in made.features]
    assert all(one.grad is not None and one.grad.isfinite().all() for one in [*read, *made.parameters()])
    assert scale == 0 or any(one.grad.abs().max() > 0 for one in read if one.grad is not None)


def test_terms_that_ask_the_same_share_it() -> None:
    assert asked_names(objective("rkd+pkt+cc+sp-pooled")) == ("pooled",)
    assert asked_names(objective("fitnet+vid+sp+at")) == (
        "at/stage1",
        "at/stage2",
        "at/stage3",
        "stage2",
        "stage3",
        "stage1",
    )


RELATIONS = {"sp": 2, "sp-pooled": 2, "rkd": 3, "pkt": 2, "cc": 2}


def test_which_terms_need_several_samples() -> None:
    mine = {name: term for name, term in TERMS.items() if name in NAMES}
    assert {name: term().smallest_batch for name, term in mine.items() if term().smallest_batch > 1} == RELATIONS
    assert all(issubclass(term, FeatureTerm) for term in mine.values())


@pytest.mark.parametrize("name", RELATIONS)
def test_a_batch_that_is_too_short_is_refused_before_training(name: str) -> None:
    least = RELATIONS[name]
    size = next(size for size in range(COUNT - 1, 0, -1) if COUNT % size == least - 1)
    words = f"the last batch has {least - 1}; {name} compares the samples of a batch, at least {least}; choose another"
    for batch_size in (size, least - 1):
        with pytest.raises(InputError, match=f"^distill.batch_size is {batch_size}: of {COUNT} samples {words}"):
            try_student(settings(f"kd+{name}", batch_size=batch_size), DATASET)
    try_student(settings(f"kd+{name}", batch_size=size - least), DATASET)


def test_unit_vectors_have_length_one_at_any_scale_and_no_gradient_at_zeros() -> None:
    rows = torch.tensor([[3.0, -4.0], [3e30, -4e30], [3e-10, -4e-10], [0.0, 0.0]]).requires_grad_()
    found = unit(rows)
    expected = torch.tensor([[0.6, -0.8]] * 3 + [[0.0, 0.0]])
    torch.testing.assert_close(found, expected)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert rows.grad is not None and rows.grad.isfinite().all() and rows.grad[3].tolist() == [0, 0]
    assert unit(torch.tensor([[float("nan"), 1.0]])).isnan().any(), "NaN is not hidden"

"""A batch's gradients: eager, compiled and replayed calls give the same, and no call's values appear in the next call."""

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from prepkd.distillation.student_settings import Distill
from prepkd.methods.objective import Objective
from prepkd.models.new import new_model
from prepkd.training.compilation import SampleValues
from prepkd.training.step import EAGER_CALLS, CudaGraphFunction, make_gradients
from small_training import CLASSES, DATASET, FromLoss, cross_entropy
from small_training import settings as plain_settings
from torch import Tensor, nn

CPU = torch.device("cpu")
NAMES = ("logits", "row_max")


def settings(method: str = "ka-ps+dtd-flsw", **changes: Any) -> Distill:
    return Distill.model_validate(
        {"teacher": "t", "student": "convnet4", "method": method, "epochs": 1, "precision": "float32"} | changes
    )


def batch(seed: int, count: int = 16) -> tuple[Tensor, ...]:
    """Return pixels, labels, the share, and a teacher's answers."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.randn(count, CLASSES, generator=generator)
    offsets -= offsets.amax(dim=-1, keepdim=True)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return (
        torch.rand(count, 1, 8, 8, generator=generator),
        labels,
        torch.tensor(0.5, dtype=torch.float64),
        offsets.half(),
        torch.randn(count, generator=generator),
    )


def taught(
    chosen: Distill, make: Callable[..., Any] = lambda gradients: gradients, counts: tuple[int, ...] = ()
) -> Any:
    """Train a convnet4 on batches, and return the values and gradients of every step and the final weights."""
    model = new_model("convnet4", DATASET, 0).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    gradients = make(make_gradients(model, Objective(chosen.terms), NAMES, chosen, CPU, 1))
    steps = []
    for seed, count in enumerate(counts or (16,) * 7):
        values = {name: value.clone() for name, value in gradients(*batch(seed, count)).items()}
        steps.append((values, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return steps, model.state_dict()


class Again:
    """A recorder without a device: a replay runs the function again and copies its values into the same memory."""

    def __init__(self) -> None:
        self.warmed = self.captured = self.replayed = 0

    def warm_up(self, function: Callable[[], SampleValues]) -> SampleValues:
        self.warmed += 1
        return function()

    def capture(self, function: Callable[[], SampleValues]) -> Callable[[], SampleValues]:
        self.captured += 1  # capturing runs no step, as on a GPU
        memory: SampleValues = {}

        def replay() -> SampleValues:
            self.replayed += 1
            for name, value in function().items():
                memory.setdefault(name, torch.empty_like(value)).copy_(value)
            return memory

        return replay


def equal(ours: Any, theirs: Any, **tolerance: float) -> None:
    (steps, weights), (other_steps, other_weights) = ours, theirs
    for (values, grads), (other_values, other_grads) in zip(steps, other_steps, strict=True):
        torch.testing.assert_close(values, other_values, equal_nan=True, **tolerance)
        torch.testing.assert_close(grads, other_grads, **tolerance)
    torch.testing.assert_close(weights, other_weights, **tolerance)


@pytest.mark.parametrize("method", ["ce", "kd", "ka-ps", "ka-lsr", "ka-lsr+dtd-cwsm", "ka-ps+dtd-flsw"])
def test_replayed_steps_are_the_eager_ones_to_the_last_bit(method: str) -> None:
    recorder, counts = Again(), (16, 16, 5, 16, 16, 16, 16, 5, 16)
    chosen = settings(method)
    ours = taught(chosen, partial(CudaGraphFunction, modules=[], recorder=recorder), counts)
    equal(ours, taught(chosen, counts=counts), rtol=0, atol=0)
    assert (recorder.warmed, recorder.captured, recorder.replayed) == (EAGER_CALLS, 1, len(counts) - EAGER_CALLS - 2)


@pytest.mark.parametrize("draw", [random.random, np.random.random], ids=["python", "numpy"])
def test_a_step_that_draws_numbers_on_the_host_is_not_captured(
    draw: Callable[[], float], caplog: pytest.LogCaptureFixture
) -> None:
    """A replay would repeat the number of the captured step; a step without such a draw is captured, see above."""

    def drawing(logits: Tensor, labels: Tensor, *_: Tensor) -> dict[str, Tensor]:
        return {"loss": cross_entropy(logits, labels)["loss"] * (2 if draw() < 0.5 else 1)}

    recorder, steps = Again(), EAGER_CALLS + 3
    model, objective = Stateful(), FromLoss(drawing)
    gradients = make_gradients(model, objective, (), plain_settings(), CPU, 1)
    captured = CudaGraphFunction(gradients, [model, objective], recorder)
    for seed in range(steps):
        captured(*batch(seed, 16)[:3])
    assert (recorder.warmed, recorder.captured, recorder.replayed) == (EAGER_CALLS, 0, 0)
    [record] = caplog.records
    assert "draws random numbers on the CPU, which a CUDA graph would repeat in every step" in record.getMessage()


class Refused(Again):
    """A recorder whose captures fail as late as they can, and whose end raises another error, as torch's does."""

    def capture(self, function: Callable[[], SampleValues]) -> Callable[[], SampleValues]:
        self.captured += 1
        try:
            function()
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with `TORCH_USE_CUDA_DSA`.")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")


class Stateful(nn.Module):
    """A model whose training changes state: batch norm's statistics, random numbers, a buffer that is assigned anew."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.fc = nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Linear(64, CLASSES)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        return self.fc(self.drop(self.norm(x)).flatten(1)) + self.mean


def stateful_training(counts: tuple[int, ...], recorder: Again | None = None) -> tuple[Any, ...]:
    """Train on batches of `counts` samples; return the values of all steps, the gradients, the state, a random number."""
    torch.manual_seed(0)
    model, objective = Stateful(), FromLoss(cross_entropy)
    gradients = make_gradients(model, objective, (), plain_settings(), CPU, 1)
    if recorder:
        gradients = CudaGraphFunction(gradients, [model, objective], recorder)
    values = []
    for seed, count in enumerate(counts):
        found = gradients(*batch(seed, count)[:3])  # gradients add up over the steps
        values.append({name: value.clone() for name, value in found.items()})
    return values, [one.grad for one in model.parameters()], dict(model.state_dict()), torch.rand(1)


def test_a_step_that_cannot_be_captured_trains_as_if_it_had_not_been_tried(caplog: pytest.LogCaptureFixture) -> None:
    recorder, counts = Refused(), (16,) * (EAGER_CALLS + 1) + (5, 16, 16)
    torch.testing.assert_close(stateful_training(counts, recorder), stateful_training(counts), rtol=0, atol=0)
    assert (recorder.warmed, recorder.captured, recorder.replayed) == (EAGER_CALLS, 1, 0)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "a training step cannot be captured as a CUDA graph: RuntimeError: operation not permitted when stream is capturing "
        f"(test_step.py, line {Refused.capture.__code__.co_firstlineno + 4}); training continues without it, which is slower "
        "(docs/how-to/own-model.md)"
    )


def test_a_batchs_gradient_is_its_share_of_the_mean() -> None:
    (whole, *_), _ = taught(settings())
    pixels, labels, _, *answers = batch(0)
    model = new_model("convnet4", DATASET, 0).train()
    teacher = dict(zip(NAMES, answers, strict=True))
    loss = Objective(settings().terms)({"logits": model(pixels)}, labels, teacher)["loss"]
    (loss.mean() / 2).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(whole[1], [p.grad for p in model.parameters()])
    torch.testing.assert_close(whole[0]["loss"], loss.detach())


def test_compiled_steps_are_the_eager_ones_up_to_rounding() -> None:
    """In float32 only the order of summation may differ. The shorter batch is not compiled for."""
    counts = (16, 16, 5)
    equal(taught(settings(compile=True), counts=counts), taught(settings(), counts=counts), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:bf16 and fp16 are mixed:UserWarning")
def test_compiled_steps_in_bf16_lose_what_eager_ones_do_up_to_its_rounding() -> None:
    """Fused layers skip intermediate rounding: losses and weights differ by the 8 bits of a bf16.

    The ignored warning says that the teacher's answers are float16, and vectors are shorter there.
    """
    counts = (16, 16, 5)
    (ours, weights), (theirs, other_weights) = (
        taught(settings(compile=asked, precision="bf16"), counts=counts) for asked in (True, False)
    )
    for (values, _), (other_values, _) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(values["loss"], other_values["loss"], rtol=2**-8, atol=2**-8)
    torch.testing.assert_close(weights, other_weights, rtol=2**-8, atol=2**-8)

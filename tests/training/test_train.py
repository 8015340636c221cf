"""The training loop: the order of samples and views, its arithmetic, and no step that waits for the GPU."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepkd.data.samples.samples import Samples
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.objective import Objective
from prepkd.training import loop as train_module
from prepkd.training.batches import Views
from prepkd.training.evaluation import predict
from prepkd.training.progress import BatchProgress
from prepkd.views.order import random
from small_training import (
    CLASSES,
    COUNT,
    DATASET,
    EPOCHS,
    SCHEDULES,
    Answers,
    Watched,
    cross_entropy,
    fit,
    same,
    settings,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

pytestmark = pytest.mark.usefixtures("one_thread")


class Float32(nn.Module):
    """A linear model that notes, for each forward pass, whether it trains and how a GPU would compute in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, CLASSES)
        self.seen: set[tuple[bool, bool, bool]] = set()

    def forward(self, x: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=False):  # it reads the switch below, as users' models may
            pass
        self.seen.add((self.training, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return self.fc(x.flatten(1))


def test_float32_is_never_tf32(tmp_path: Path) -> None:
    """torch's default on a GPU is TF32 in convolutions; training and evaluation, between epochs and later, do not use it."""
    assert torch.backends.cudnn.allow_tf32
    model = Float32()
    fit(tmp_path / "run.pt", settings(epochs=1), model=model)
    assert model.seen == {(True, False, False), (False, False, False)}
    model.seen.clear()
    predict(model, DATASET.held_out["test"])
    assert model.seen == {(False, False, False)}
    assert torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_precision_is_what_was_asked_for(tmp_path: Path) -> None:
    one, _ = fit(tmp_path / "one.pt", settings())
    half, _ = fit(tmp_path / "half.pt", settings(precision="bf16"))
    assert not same(one, half)
    assert all(value.dtype in (torch.float32, torch.int64) for value in half.values())


@pytest.mark.parametrize("fault", [None, KeyError], ids=["finished", "stopped"])
def test_torch_is_afterwards_as_the_user_left_it(tmp_path: Path, fault: type[BaseException] | None) -> None:
    seen: list[bool] = []

    def on_step(tick: BatchProgress) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())
        if fault:
            raise fault

    before = torch.get_rng_state()
    with pytest.raises(fault) if fault else nullcontext():
        fit(tmp_path / "run.pt", settings(epochs=1, deterministic=True), on_step=on_step)
    assert all(seen) and seen
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(before, torch.get_rng_state())


def test_bf16_sees_the_weights_of_its_own_step(tmp_path: Path) -> None:
    """An autocast context around several steps would keep the first step's bf16 weights; float32 and bf16 then part ways."""
    losses = []
    for precision in ("float32", "bf16"):
        _, history = fit(tmp_path / f"{precision}.pt", settings(precision=precision))
        losses.append([row["train/loss"] for row in history])
    assert losses[1] == pytest.approx(losses[0], rel=0.01) and losses[1] != losses[0]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        fit(tmp_path / "run.pt", settings(lr=1e30))
    assert str(caught.value) == "epoch 0: the training loss is nan; lower lr (1e+30)"
    assert not (tmp_path / "run.pt").exists()


def test_one_sample_of_the_last_epoch_is_enough_to_stop_it(tmp_path: Path) -> None:
    calls = 0

    def loss(logits: Tensor, labels: Tensor, *_: object) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        spoilt = torch.ones(len(labels))
        if calls == EPOCHS * 5:
            spoilt[0] = torch.nan
        return {"loss": cross_entropy(logits, labels)["loss"] * spoilt}

    with pytest.raises(InputError, match=r"^epoch 3: the training loss is nan; "):
        fit(tmp_path / "run.pt", settings(), loss=loss)


# Samples and views, in order


def shown(folder: Path, seed: int, views_of: Callable[[int], Views]) -> tuple[Tensor, Tensor, Tensor]:
    """Return each epoch's samples in order (E, N), their pixels (E, N, 1, 8, 8), and the teacher's answers' samples (E, N)."""
    samples = Samples(DATASET.samples.images, torch.arange(COUNT))  # the label is the sample's number
    model = Watched(COUNT)
    order: list[Tensor] = []
    answered: list[Tensor] = []

    def loss(logits: Tensor, labels: Tensor, offsets: Tensor, row_max: Tensor) -> dict[str, Tensor]:
        order.append(labels)
        assert torch.equal(offsets[:, 0], row_max)
        answered.append(row_max)
        return cross_entropy(logits, labels)

    def teacher(views: Views) -> dict[str, Tensor]:
        rows = torch.arange(COUNT).float()
        return {"logits": rows.unsqueeze(1).repeat(1, COUNT), "row_max": rows}

    fit(
        folder / f"{len(list(folder.iterdir()))}.pt",
        settings(),
        model=model,
        samples=samples,
        held_out={},
        loss=loss,
        teacher=Answers(teacher),
        seed=seed,
        views_of=views_of,
    )
    return (
        torch.cat(order).view(EPOCHS, COUNT),
        torch.cat(model.seen).view(EPOCHS, COUNT, 1, 8, 8),
        torch.cat(answered).view(EPOCHS, COUNT).long(),
    )


@pytest.mark.parametrize(
    "views_of", [lambda epoch: 2 * epoch, partial(random, 6, views=9, samples=COUNT)], ids=["one view", "random views"]
)
def test_an_epoch_shows_every_sample_once_its_own_view_its_own_answer(
    views_of: Callable[[int], Views], tmp_path: Path
) -> None:
    order, pixels, answered = shown(tmp_path, 3, views_of)
    assert torch.equal(answered, order)
    for epoch in range(EPOCHS):
        assert sorted(order[epoch].tolist()) == list(range(COUNT))
        views = views_of(epoch)
        for place, sample in enumerate(order[epoch].tolist()):
            view = views if isinstance(views, int) else int(views[sample])
            row = torch.from_numpy(DATASET.plan.parameters(view, np.array([sample])))
            expected = DATASET.plan.render(DATASET.samples.images[sample : sample + 1], row)[0]
            assert torch.equal(pixels[epoch, place], expected)


def test_order_is_a_function_of_seed_and_epoch_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    order, pixels, _ = shown(tmp_path, 3, lambda epoch: epoch)
    torch.manual_seed(2)
    again, again_pixels, _ = shown(tmp_path, 3, lambda epoch: epoch)
    assert torch.equal(order, again)
    assert torch.equal(pixels, again_pixels)
    other, _, _ = shown(tmp_path, 4, lambda epoch: epoch)
    for epoch in range(EPOCHS):
        assert not torch.equal(order[epoch], other[epoch])
        assert not torch.equal(order[epoch], order[epoch - 1])


# Arithmetic


def one_cycle(step: int, total: int, top: float) -> float:
    """Return the rate: 30 % up from top / 25, then down to that / 10,000, both along a cosine; the peak is step 0.3 total - 1."""
    peak, last = 0.3 * total - 1, total - 1
    start, stop, share = (
        (top / 25, top, step / peak) if step <= peak else (top, top / 25e4, (step - peak) / (last - peak))
    )
    return stop + (start - stop) / 2 * (1 + np.cos(np.pi * share))


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        ("multi-step", lambda e: 0.05 * 0.1 ** sum(m <= e for m in (2, 3))),
        ("cosine", lambda e: 0.05 / 2 * (1 + np.cos(np.pi * e / EPOCHS))),
        ("one-cycle", lambda e: one_cycle(5 * e, 5 * EPOCHS, 0.05)),
    ],
)
def test_learning_rate_of_each_epoch(schedule: str, formula: Callable[[int], float], tmp_path: Path) -> None:
    _, history = fit(tmp_path / "run.pt", settings(**SCHEDULES[schedule]))
    assert [row["lr"] for row in history] == pytest.approx([formula(e) for e in range(EPOCHS)], rel=1e-9)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_steps_are_those_of_sgd_by_hand(momentum: float, nesterov: bool, tmp_path: Path) -> None:
    """Softmax regression in float64: two steps on the whole set, so that the first step's momentum enters the second."""
    decay, lr = 0.01, 0.3
    chosen = settings(
        epochs=2,
        batch_size=COUNT,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=decay,
        schedule="multi-step",
        milestones=[2],
    )
    model = Watched(CLASSES)
    w = {name: value.detach().double().numpy().copy() for name, value in model.fc.named_parameters()}
    velocity = {name: np.zeros_like(value) for name, value in w.items()}
    labels = DATASET.samples.labels.numpy()
    for epoch in range(2):
        rows = torch.from_numpy(DATASET.plan.parameters(epoch))
        x = DATASET.plan.render(DATASET.samples.images, rows).double().flatten(1).numpy()
        gradient = {name: np.zeros_like(value) for name, value in w.items()}
        for pixels, label in zip(x, labels, strict=True):
            logits = w["weight"] @ pixels + w["bias"]
            error = np.exp(logits) / np.exp(logits).sum() - np.eye(CLASSES)[label]
            gradient["weight"] += np.outer(error, pixels) / COUNT
            gradient["bias"] += error / COUNT
        for name in w:
            g = gradient[name] + decay * w[name]
            velocity[name] = momentum * velocity[name] + g
            w[name] = w[name] - lr * (g + momentum * velocity[name] if nesterov else velocity[name])
    fit(tmp_path / "run.pt", chosen, model=model)
    for name, value in model.fc.named_parameters():
        np.testing.assert_allclose(value.detach().numpy(), w[name], rtol=2e-5, atol=1e-7)


class Waits(TorchDispatchMode):
    """Counts operations that make the host wait for a GPU: reading a number of a tensor, or a size that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "clip_grad_norm": 1.0, "warmup_epochs": 1}])
def test_no_step_waits_for_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    """No step waits between an epoch's report and the next epoch's last step; figures are read after it."""
    waits, steps, summaries = Waits(), [], []
    summarise = train_module.summarise

    def summed(figures: dict[str, Tensor]) -> dict[str, float]:
        steps.append(waits.count)
        return summarise(figures)

    monkeypatch.setattr(train_module, "summarise", summed)
    taught = Distill.model_validate(
        {"teacher": "t", "student": "convnet4", "method": "ka-ps+dtd-flsw", "epochs": EPOCHS, "batch_size": 16}
        | changes
    )
    offsets = torch.randn(COUNT, CLASSES, generator=torch.Generator().manual_seed(0))
    answers = {"logits": offsets - offsets.amax(dim=-1, keepdim=True), "row_max": torch.ones(COUNT)}
    teacher = Answers(lambda views: answers)
    with waits:
        fit(
            tmp_path / "c.pt",
            taught,
            objective=Objective(taught.terms),
            teacher=teacher,
            held_out={},
            on_epoch=lambda row: summaries.append(waits.count),
        )
    assert len(steps) == len(summaries) == EPOCHS and summaries[0] > steps[0]
    assert steps[1:] == summaries[:-1]

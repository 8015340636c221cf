"""The training loop: nothing in it is random but by seed and epoch, so a killed run ends where an unbroken one does."""

import errno
import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import ROOT
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.methods.objective import Objective
from prepkd.models import build_model
from prepkd.models.new import new_model
from prepkd.runtime.files import replacing
from prepkd.runtime.machine_faults import REMEDIES, explained
from prepkd.runtime.streams import Purpose, torch_seed
from prepkd.training import checkpoints
from prepkd.training import loop as train_module
from prepkd.training.batches import Views
from prepkd.training.checkpoints import CHECKSUM, Row, load_state
from prepkd.training.evaluation import predict, top1
from prepkd.training.initial import given_weights
from prepkd.training.loop import summarise
from prepkd.training.student_settings import Distill
from prepkd.training.teacher import teacher_card, teacher_views, train_teacher
from prepkd.training.teacher_settings import Teacher
from prepkd.views import ViewPlan
from prepkd.views.order import random
from small_training import (
    CLASSES,
    COUNT,
    DATASET,
    EPOCHS,
    Answers,
    Watched,
    cross_entropy,
    fit,
    ignore,
    same,
    settings,
    stop_after,
    timeless,
)
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

SCHEDULES = {
    "multi-step": {"schedule": "multi-step", "milestones": [2, 3]},
    "cosine": {"schedule": "cosine"},
    "one-cycle": {"schedule": "one-cycle"},
}


pytestmark = pytest.mark.usefixtures("one_thread")


# A run that is interrupted


# Whatever ends it but a kill keeps the last epoch that was finished, due for a checkpoint or not.
@pytest.mark.parametrize(
    ("by", "after", "every", "left"),
    [
        (MemoryError, EPOCHS - 2, 1, [3]),
        (MemoryError, EPOCHS - 2, 9, [3]),
        (KeyboardInterrupt, EPOCHS - 2, 9, [3]),
        (InputError, EPOCHS - 1, 9, []),  # a server that is lost
        (KeyboardInterrupt, EPOCHS - 1, 9, []),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_interrupted_run_ends_with_the_same_bits(
    schedule: str, precision: str, by: type[BaseException], after: int, every: int, left: list[int], tmp_path: Path
) -> None:
    chosen = settings(**SCHEDULES[schedule], precision=precision, checkpoint_every=every)
    weights, history = fit(tmp_path / "whole.pt", chosen)
    with pytest.raises(by):
        fit(tmp_path / "cut.pt", chosen, on_epoch=stop_after(after, by))
    trained: list[int] = []
    reported: list[Row] = []
    # Another initialisation: everything has to come from the checkpoint.
    resumed, rows = fit(
        tmp_path / "cut.pt",
        chosen,
        model=new_model("convnet4", DATASET, 99),
        views_of=lambda epoch: trained.append(epoch) or epoch,  # type: ignore[func-returns-value]
        on_epoch=reported.append,
    )
    assert trained == left
    assert same(resumed, weights)
    assert timeless(rows) == timeless(history) == timeless(reported)
    assert len(rows) == EPOCHS


def test_a_checkpoint_that_the_disk_has_no_room_for_leaves_the_last_one(tmp_path: Path) -> None:
    path, chosen, before = tmp_path / "cut.pt", settings(checkpoint_every=1), resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(row: Row) -> None:
        if row["epoch"] == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))

    try:
        with pytest.raises(OSError) as caught:
            fit(path, chosen, on_epoch=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert explained(caught.value) == (
        f"{path}: File too large; finished work is kept: {REMEDIES[errno.EFBIG]}, then run the same command again"
    )
    assert list(tmp_path.iterdir()) == [path]
    trained: list[int] = []
    weights, _ = fit(path, chosen, views_of=lambda epoch: trained.append(epoch) or epoch)  # type: ignore[func-returns-value]
    assert trained == [2, 3] and same(weights, fit(tmp_path / "whole.pt", chosen)[0])


def other_parts(content: bytes, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    """A checkpoint with other parts and a right checksum: of another version of a user's model, say."""
    state = torch.load(io.BytesIO(content[CHECKSUM:]), weights_only=True)
    changed = io.BytesIO()
    torch.save(change(state), changed)
    return hashlib.sha256(changed.getvalue()).digest() + changed.getvalue()


def flipped(place: float) -> Callable[[bytes], bytes]:
    """Flip a bit at this fraction of the content."""
    return lambda content: bytes(
        byte ^ 4 if index == int(place * (len(content) - 1)) else byte for index, byte in enumerate(content)
    )


WITHOUT_PART = "holds no objective"
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    **{
        f"cut to {length}": (lambda content, length=length: content[:length], "checksum") for length in (0, 3, 40, 1000)
    },
    **{f"a bit at {place:.0%}": (flipped(place), "checksum") for place in (0, 0.01, 0.2, 0.4, 0.6, 0.8, 0.99, 1)},
    "longer": (lambda content: content + b"more", "checksum"),
    "halves swapped": (lambda content: content[len(content) // 2 :] + content[: len(content) // 2], "checksum"),
    "of a version without checksum": (lambda content: content[CHECKSUM:], "checksum"),
    "without a part": (
        lambda content: other_parts(content, lambda state: {k: v for k, v in state.items() if k != "objective"}),
        WITHOUT_PART,
    ),
    # The optimizer's part fails when the model's is loaded already.
    "another optimizer": (
        lambda content: other_parts(content, lambda state: state | {"optimizer": {"state": {}, "param_groups": []}}),
        "parameter group",
    ),
    "another model": (
        lambda content: other_parts(content, lambda state: state | {"model": {"fc.weight": torch.ones(3)}}),
        "Missing key",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_training_starts_anew(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, chosen = tmp_path / "cut.pt", settings(ema=0.5, schedule="one-cycle")
    weights, history = fit(path, chosen)
    change, reason = DAMAGES[damage]
    damaged = change(path.read_bytes())
    path.write_bytes(damaged)
    again, rows = fit(path, chosen)
    assert same(again, weights) and timeless(rows) == timeless(history)
    assert (tmp_path / "cut.pt.damaged").read_bytes() == damaged
    (line,) = caplog.messages
    assert line.startswith(f"{path}: ") and reason in line
    assert line.endswith("; set aside as cut.pt.damaged, and training starts anew") and "\n" not in line
    assert fit(path, chosen)[1] == rows, "the new checkpoint is whole"


@pytest.mark.parametrize("place", ["cut.pt", "cut.pt.damaged"])
def test_a_folder_in_a_checkpoints_place_is_set_aside(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, chosen = tmp_path / "cut.pt", settings()
    path.write_bytes(b"torn")
    (tmp_path / place).unlink(missing_ok=True)
    (tmp_path / place / "inner").mkdir(parents=True)
    fit(path, chosen)
    assert path.is_file() and (tmp_path / "cut.pt.damaged").is_dir() is (place == "cut.pt")
    assert len(caplog.messages) == 1 and "set aside as cut.pt.damaged" in caplog.messages[0]


def test_precision_is_what_was_asked_for(tmp_path: Path) -> None:
    one, _ = fit(tmp_path / "one.pt", settings())
    half, _ = fit(tmp_path / "half.pt", settings(precision="bf16"))
    assert not same(one, half)
    assert all(value.dtype in (torch.float32, torch.int64) for value in half.values())


def killed_run(checkpoint: Path, moment: str) -> None:
    """The subprocess below runs this: it kills itself, in a step of epoch 2 or while epoch 2's checkpoint is written."""
    torch.set_num_threads(1)
    calls = 0

    def loss(logits: Tensor, labels: Tensor, *rest: object) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if moment == "step" and calls == 2 * 5 + 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return cross_entropy(logits, labels)

    written, write_bytes = 0, checkpoints.write_bytes

    def write(path: Path, content: bytes) -> None:
        nonlocal written
        written += 1
        if moment == "save" and written == 3:
            with replacing(path) as temporary:
                temporary.write_bytes(content[:1000])
                os.kill(os.getpid(), signal.SIGKILL)
        write_bytes(path, content)

    checkpoints.write_bytes = write
    fit(checkpoint, settings(checkpoint_every=1), loss=loss)


@pytest.mark.parametrize("moment", ["step", "save"])
def test_a_run_killed_by_sigkill_ends_with_the_same_bits(moment: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(ROOT / 'tests')]}\n"
        "from pathlib import Path; from test_train import killed_run\n"
        f"killed_run(Path({str(tmp_path / 'cut.pt')!r}), {moment!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(load_state(tmp_path / "cut.pt", {})) == 2
    weights, history = fit(tmp_path / "whole.pt", settings(checkpoint_every=1))
    resumed, rows = fit(tmp_path / "cut.pt", settings(checkpoint_every=1))
    assert same(resumed, weights)
    assert timeless(rows) == timeless(history)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    weights, history = fit(tmp_path / "run.pt", settings(checkpoint_every=3))
    before = (tmp_path / "run.pt").stat()
    reported: list[Row] = []

    def views_of(epoch: int) -> int:
        raise AssertionError(f"epoch {epoch} is trained again")

    again, rows = fit(
        tmp_path / "run.pt",
        settings(checkpoint_every=3),
        model=new_model("convnet4", DATASET, 99),
        views_of=views_of,
        on_epoch=reported.append,
    )
    assert same(again, weights)
    assert rows == history == reported  # the very same seconds, too
    after = (tmp_path / "run.pt").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


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


# What is shown, and when


def shown(folder: Path, seed: int, views_of: Callable[[int], Views]) -> tuple[Tensor, Tensor, Tensor]:
    """Each epoch's samples in order (E, N), their pixels (E, N, 1, 8, 8), and the teacher's answer's own sample (E, N)."""
    samples = Samples(DATASET.samples.images, torch.arange(COUNT))  # the label says which sample it is
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
    """30 % up from top / 25, then down to that / 10,000, both along a cosine; the peak is in step 0.3 total - 1."""
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
    """Softmax regression in float64: two steps on the whole set, so that the momentum of the first is in the second."""
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


# What is logged


def recording(settings: Distill, log: list[dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    def loss(logits: Tensor, labels: Tensor, offsets: Tensor, row_max: Tensor) -> dict[str, Tensor]:
        teacher = {"logits": offsets, "row_max": row_max}
        values = Objective(settings.terms)({"logits": logits}, labels, teacher)
        log.append({key: value.detach() for key, value in values.items()})
        return values

    return loss


def test_a_row_holds_the_figures_of_the_epoch(tmp_path: Path) -> None:
    chosen = Distill.model_validate(
        settings(epochs=2).model_dump(exclude_unset=True)
        | {"teacher": "t", "student": "convnet4", "method": "ka-lsr+dtd-cwsm", "ce_weight": 0.2}
        | {"dtd": {"tau_0": 4.0, "tau_min": 3.99, "tau_max": 4.02}}
    )
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(COUNT, CLASSES, generator=generator) + 2 * F.one_hot(DATASET.samples.labels, CLASSES)
    answers = {"logits": (logits - logits.amax(1, keepdim=True)).half(), "row_max": logits.amax(1)}
    log: list[dict[str, Tensor]] = []
    model = new_model("convnet4", DATASET, 0)
    _, history = fit(
        tmp_path / "run.pt", chosen, model=model, loss=recording(chosen, log), teacher=Answers(lambda views: answers)
    )
    for epoch, row in enumerate(history):
        assert set(row) == {
            "epoch",
            "lr",
            "samples_per_second",
            "val/top1",
            "test/top1",
            *(f"train/{name}" for name in ("loss", "ce", "kd", "top1", "adjusted")),
            *(f"train/{name}" for name in ("tau", "tau_min", "tau_max", "tau_clamped")),
            *(f"train/{name}" for name in ("gradient_adjusted", "gradient_untouched")),
        }
        assert row["epoch"] == epoch
        assert 0 < row["samples_per_second"] < 1e7
        steps = log[5 * epoch : 5 * epoch + 5]
        for name in ("loss", "ce", "kd", "adjusted", "tau", "tau_clamped"):
            values = [float(value) for step in steps for value in step[name]]
            assert len(values) == COUNT
            assert row[f"train/{name}"] == pytest.approx(sum(values) / COUNT, rel=1e-5)
        temperatures = [float(value) for step in steps for value in step["tau"]]
        assert row["train/tau_min"] == min(temperatures)
        assert row["train/tau_max"] == max(temperatures)
        assert row["train/loss"] == pytest.approx(0.2 * row["train/ce"] + 0.8 * row["train/kd"], rel=1e-5)
        wrong = [i for i in range(COUNT) if logits[i].argmax() != DATASET.samples.labels[i]]
        assert row["train/adjusted"] == pytest.approx(len(wrong) / COUNT)
        assert 0 < row["train/adjusted"] < 1
        assert 0 < row["train/tau_clamped"] < 1
    for name, part in DATASET.held_out.items():
        pixels = part.images.float() / 255
        right = sum(int(model.eval()(pixels[i : i + 1]).argmax() == part.labels[i]) for i in range(len(part.labels)))
        assert history[-1][f"{name}/top1"] == pytest.approx(right / len(part.labels))


def test_train_top1_counts_the_answers_of_training(tmp_path: Path) -> None:
    right: list[float] = []

    def loss(logits: Tensor, labels: Tensor, *_: object) -> dict[str, Tensor]:
        right.extend(float(logits[i].argmax() == labels[i]) for i in range(len(labels)))
        return cross_entropy(logits, labels)

    _, history = fit(tmp_path / "run.pt", settings(), loss=loss)
    assert [row["train/top1"] for row in history] == pytest.approx(
        [sum(right[e * COUNT : (e + 1) * COUNT]) / COUNT for e in range(EPOCHS)]
    )
    assert history[-1]["train/top1"] > history[0]["train/top1"]


def test_a_group_without_samples_is_left_out() -> None:
    nan = torch.nan
    groups = {"gradient_adjusted": torch.tensor([nan, nan]), "gradient_untouched": torch.tensor([4.0, nan])}
    figures = {"loss": torch.tensor([1.0, 2.0])} | groups
    assert summarise(figures) == {"train/loss": 1.5, "train/gradient_untouched": 4.0}


def test_figures_are_kept_though_the_next_step_writes_over_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a replayed CUDA graph does, for whole batches."""
    _, expected = fit(tmp_path / "plain.pt", settings())
    make = train_module.make_gradients

    def make_gradients(*arguments: Any) -> Any:
        gradients, memory = make(*arguments), {}

        def run(*batch: Tensor) -> Any:
            values = gradients(*batch)
            if len(batch[0]) < settings().batch_size:
                return values
            for name, value in values.items():
                memory.setdefault(name, torch.empty_like(value)).copy_(value)
            return memory

        return run

    monkeypatch.setattr(train_module, "make_gradients", make_gradients)
    _, found = fit(tmp_path / "replayed.pt", settings())
    assert timeless(found) == timeless(expected)


def test_predict_is_the_model_in_evaluation_mode_whatever_the_batches() -> None:
    model = new_model("convnet4", DATASET, 0)
    images, labels = DATASET.samples.images, DATASET.samples.labels
    model.train()
    model(images.float() / 255)
    whole = predict(model, DATASET.samples)
    assert not model.training
    assert whole.dtype == torch.float32
    torch.testing.assert_close(predict(model, DATASET.samples, batch_size=7), whole, rtol=1e-5, atol=1e-5)
    assert top1(whole, labels) == pytest.approx(
        sum(int(a.argmax() == b) for a, b in zip(whole, labels, strict=True)) / COUNT
    )


# Teachers


def teacher_settings(**changes: Any) -> Teacher:
    return Teacher.model_validate(
        settings().model_dump(exclude_unset=True) | {"model": "convnet4", "epochs": 2, "seed": 3} | changes
    )


def taught(chosen: Teacher, checkpoint: Path, dataset: Dataset = DATASET) -> tuple[dict[str, Tensor], list[Row]]:
    model, history = train_teacher(chosen, dataset, checkpoint=checkpoint, on_epoch=ignore)
    return model.body.state_dict(), history


def test_given_weights_are_taken_as_they_are_or_started_from(tmp_path: Path) -> None:
    body = build_model("convnet4", CLASSES, in_channels=1)
    torch.save(body.state_dict(), tmp_path / "given.pth")
    given = {"weights": tmp_path / "given.pth"}
    weights, history = taught(teacher_settings(**given, epochs=0), tmp_path / "run.pt")
    assert same(weights, body.state_dict())
    assert history == []
    assert not (tmp_path / "run.pt").exists()
    from_given, _ = taught(teacher_settings(**given), tmp_path / "given.pt")
    from_scratch, history = taught(teacher_settings(), tmp_path / "scratch.pt")
    assert not same(from_given, from_scratch)
    assert len(history) == 2


def test_given_weights_count_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "given.pth"
    assert given_weights(teacher_settings(), "convnet4") == {}
    path.write_bytes(b"abc")
    assert given_weights(teacher_settings(weights=path), "convnet4") == {
        "given_weights": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    }


def test_missing_weights_say_which_setting_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "missing.pth"
    with pytest.raises(InputError) as caught:
        given_weights(teacher_settings(weights=path), "convnet4")
    assert str(caught.value) == (f"{path}: no such file; set teachers.NAME.weights to a file of weights, or remove it")
    with pytest.raises(InputError, match=r"no such file; expected a model's weights$"):
        taught(teacher_settings(weights=path), tmp_path / "run.pt")


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ("(y, x)", "forward returned tuple; expected logits, a float tensor of shape (2, {classes})"),
        ("y[:, 1:]", "forward returned Tensor of shape (2, {fewer}); expected logits"),
        ("y.argmax(1)", "forward returned Tensor of shape (2,), torch.int64; expected logits"),
        ("y.softmax(-1)", "forward returned probabilities; expected raw logits: the output of the last layer, without"),
        ("y - y.mean(0)", "an image's logits depend on the rest of the batch"),
    ],
)
def test_a_users_own_model_that_answers_otherwise_is_refused_before_training(
    returned: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = f"answers_{abs(hash(returned))}"
    (tmp_path / f"{module}.py").write_text(
        "from torch import nn\n\n"
        "class Own(nn.Module):\n"
        "    def __init__(self, num_classes, in_channels):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(64 * in_channels, num_classes)\n\n"
        "    def forward(self, x):\n"
        "        y = self.layer(x.flatten(1))\n"
        f"        return {returned}\n"
    )
    with pytest.raises(InputError) as caught:
        taught(teacher_settings(model=f"{module}:Own"), tmp_path / "run.pt")
    message = found.format(classes=CLASSES, fewer=CLASSES - 1)
    assert str(caught.value).startswith(f"model '{module}:Own': {message}")
    assert not (tmp_path / "run.pt").exists()


def test_a_users_own_factory_is_a_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_teachers.py").write_text(
        "from torch import nn\n\n"
        "def flat(*, num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    weights, history = taught(teacher_settings(model="my_teachers:flat"), tmp_path / "run.pt")
    assert weights["1.weight"].shape == (CLASSES, 64)
    assert len(history) == 2
    torch.save(weights, tmp_path / "own.pth")
    taken, _ = taught(
        teacher_settings(model="my_teachers:flat", weights=tmp_path / "own.pth", epochs=0), tmp_path / "no.pt"
    )
    assert same(taken, weights)


def test_a_teacher_sees_a_new_view_each_epoch(tmp_path: Path) -> None:
    asked: list[Any] = []

    class Listening(ViewPlan):
        def parameters(self, view: Any, samples: Any = slice(None)) -> Any:
            asked.append(view)
            return super().parameters(view, samples)

    assert [teacher_views(teacher_settings(epochs=n, weights="w.pth")) for n in (0, 1, 5)] == [1, 1, 5]
    chosen = teacher_settings(epochs=3)
    taught(chosen, tmp_path / "run.pt", replace(DATASET, plan=Listening(["flip"], teacher_views(chosen), 3, COUNT)))
    assert asked == [0, 1, 2]


def test_a_teachers_loss_is_smoothed_cross_entropy(tmp_path: Path) -> None:
    eps = 0.2
    chosen = teacher_settings(epochs=1, batch_size=COUNT, label_smoothing=eps)
    _, [row] = taught(chosen, tmp_path / "run.pt")
    model = new_model("convnet4", DATASET, torch_seed(3, Purpose.TEACHER_WEIGHTS.stream())).train()
    pixels = DATASET.plan.render(DATASET.samples.images, torch.from_numpy(DATASET.plan.parameters(0)))
    expected = 0.0
    for logits, label in zip(model(pixels).detach().double(), DATASET.samples.labels.tolist(), strict=True):
        target = [(1 - eps) * (k == label) + eps / CLASSES for k in range(CLASSES)]
        log_sum = float(logits.exp().sum().log())
        expected -= sum(p * (float(z) - log_sum) for p, z in zip(target, logits, strict=True)) / COUNT
    assert row["train/loss"] == pytest.approx(expected, rel=1e-5)


def test_a_teachers_card_says_what_it_is() -> None:
    chosen = teacher_settings()
    card = teacher_card(new_model("convnet4", DATASET, 0), chosen, DATASET, {"dataset": "noise"})
    # convolutions 4 * 9 and 8 * 4 * 9, two batch norms, the classifier
    assert card["parameters"] == 4 * 9 + 8 * 4 * 9 + 2 * 4 + 2 * 8 + 8 * CLASSES + CLASSES
    assert (card["model"], card["num_classes"], card["in_channels"]) == ("convnet4", CLASSES, 1)
    assert card["training"] == chosen.model_dump(mode="json")
    assert card["inputs"] == {"dataset": "noise"}


class Waits(TorchDispatchMode):
    """Counts what would have the host wait for a GPU: a number asked of a tensor, or a size that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "clip_grad_norm": 1.0, "warmup_epochs": 1}])
def test_no_step_waits_for_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    """From an epoch's report to the end of the next one's last step; figures are asked for after it."""
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

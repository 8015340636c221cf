"""On a GPU: steps replayed as a CUDA graph equal eager ones, and students of a store those of the live teacher."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.samples import Samples
from prepkd.distillation.student_settings import Distill
from prepkd.methods.objective import Objective
from prepkd.models import save_checkpoint
from prepkd.models.checkpoint import load_checkpoint
from prepkd.models.new import new_model
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.runtime.torch_state import arithmetic
from prepkd.store.destination import Destination
from prepkd.teacher.caching import cache_logits
from prepkd.teacher.loaded import LoadedTeacher
from prepkd.teacher.settings import Cache
from prepkd.training.step import CudaGraphFunction, make_gradients
from prepkd.views.render import unit_range
from small_training import CLASSES, DATASET, FromLoss, distilled
from torch import Tensor
from torch.nn import functional as F

DEVICE = torch.device("cuda")
STEPS, BATCH = 6, 16

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is False"),
]


def settings(method: str, **changes: object) -> Distill:
    small = {"teacher": "t", "student": "convnet4", "epochs": 2, "batch_size": BATCH, "seeds": 1, "lr": 0.05}
    return Distill.model_validate(small | {"precision": "float32", "method": method} | changes)


def on_device(samples: Samples) -> Samples:
    assert isinstance(samples.images, Tensor)
    return replace(samples, images=samples.images.to(DEVICE), labels=samples.labels.to(DEVICE))


def dataset() -> Dataset:
    held_out = {name: on_device(part) for name, part in DATASET.held_out.items()}
    return replace(DATASET, samples=on_device(DATASET.samples), held_out=held_out)


def batch(seed: int) -> tuple[Tensor, ...]:
    """Return pixels, labels, the share, and a teacher's answers."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.randn(BATCH, CLASSES, generator=generator)
    offsets -= offsets.amax(dim=-1, keepdim=True)
    labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    made = (
        torch.rand(BATCH, 1, 8, 8, generator=generator),
        labels,
        torch.tensor(1.0, dtype=torch.float64),
        offsets.half(),
        torch.randn(BATCH, generator=generator),
    )
    return tuple(one.to(DEVICE) for one in made)


def weights_after_steps(method: str, captured: bool) -> dict[str, Tensor]:
    """The weights after `STEPS` steps of plain SGD, the last ones replayed or all eager."""
    chosen = settings(method, deterministic=not captured)  # it only chooses between replays and eager steps here
    model = new_model("convnet4", dataset(), 0).train()
    objective = Objective(chosen.terms).to(DEVICE)
    gradients = make_gradients(model, objective, ("logits", "row_max"), chosen, DEVICE, STEPS)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with arithmetic("ieee", DEVICE):
        for seed in range(STEPS):
            gradients(*batch(seed))
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    assert isinstance(gradients, CudaGraphFunction) == captured
    assert not captured or gradients.replay is not None
    return model.state_dict()


@pytest.mark.parametrize("method", ["ce", "kd", "ka-ps+dtd-flsw", "ka-lsr+dtd-cwsm", "dkd"])
def test_replayed_steps_are_the_eager_ones_up_to_rounding(method: str) -> None:
    """Kernels may sum in another order: 16 * 64 float32 terms then differ by sqrt(1024) 2^-24 = 2e-6 of their size.

    The limit allows 50 times that, for layers and steps. A replay of an old batch or without a gradient changes weights by more
    than 1e-3: a learning rate of 0.05 times gradients of about 0.1.
    """
    torch.testing.assert_close(
        weights_after_steps(method, captured=True), weights_after_steps(method, captured=False), rtol=1e-4, atol=1e-5
    )


def test_a_step_that_waits_for_the_gpu_trains_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    """A failed capture leaves torch fit to train: streams, random numbers (dropout) and memory."""

    def waiting(logits: Tensor, labels: Tensor, *_: Tensor) -> dict[str, Tensor]:
        dropped = F.dropout(logits, 0.1)
        return {"loss": F.cross_entropy(dropped, labels, reduction="none") * dropped[dropped > 0].sum().sign().item()}

    def trained(captured: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        chosen, model = settings("ce", deterministic=not captured), new_model("convnet4", dataset(), 0).train()
        gradients = make_gradients(model, FromLoss(waiting).to(DEVICE), (), chosen, DEVICE, STEPS)
        for seed in range(STEPS):
            gradients(*batch(seed)[:3])
        grads = {f"{name}.grad": one.grad for name, one in model.named_parameters() if one.grad is not None}
        return grads | model.state_dict()

    torch.testing.assert_close(trained(captured=True), trained(captured=False), rtol=1e-4, atol=1e-5)
    [line] = caplog.messages
    assert line.startswith("a training step cannot be captured as a CUDA graph: ") and "test_gpu.py, line " in line


def test_pixels_are_the_same_on_both_devices() -> None:
    """A store's hash is of pixels in [0, 1]; CUDA divides by a plain number as it multiplies by its rounded reciprocal."""
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(unit_range(values.to(DEVICE)).cpu(), unit_range(values))


@pytest.mark.parametrize("method", ["kd", "ka-ps+dtd-flsw"])
def test_a_store_trains_the_student_of_the_live_teacher(method: str, tmp_path: Path) -> None:
    """The live teacher's last bits may differ, since deterministic runs choose among fewer kernels than caching.

    An offset may then round to the next float16, 2^-11 away; the limits are of that size.
    """
    data, cache = dataset(), Cache.model_validate({"views": 9, "batch_size": 32, "chunk": 64})
    card = {"model": "convnet8", "num_classes": CLASSES, "in_channels": 1}
    save_checkpoint(tmp_path / "t", new_model("convnet8", data, 9), card)
    teacher = LoadedTeacher("t", *load_checkpoint(tmp_path / "t", device=DEVICE))
    cache_logits(teacher, data, cache, Destination(str(tmp_path / "t.zarr"), tmp_path / "scratch", print))
    files = {"t": TeacherFiles(tmp_path / "t", str(tmp_path / "t.zarr"), None, "prepkd train-teacher t")}
    ours, theirs = (
        distilled(settings(method, source=source, deterministic=True), cache, data, files, tmp_path / source)[0]
        for source in ("cached", "online")
    )
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=2**-10, atol=2**-11)

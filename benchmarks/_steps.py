"""The cases of `benchmarks.step`: each call of one is so many steps over so many samples."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import repeat

import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.losses import distillation_loss
from prepkd.models.features import Answers
from prepkd.models.new import new_model
from prepkd.store.encodings import make_encoding
from prepkd.teacher.answers import OnlineTeacher
from prepkd.teacher.forward_pass import ready
from prepkd.training.batches import Batch, Epoch, batches
from prepkd.training.loop import note
from prepkd.training.optimisers import OPTIMIZERS, make_schedule
from prepkd.training.step import make_gradients
from prepkd.training.student_settings import Distill
from prepkd.views.order import sample_order
from torch import Tensor

from benchmarks._datasets import SEED, made_up

CLASSES = 100
TEACHER_BATCH = 256


@dataclass
class Pair:
    """A teacher and a student on made-up CIFAR-100 images, so many steps of a batch size."""

    teacher: str
    student: str
    batch_size: int
    steps: int
    device: torch.device
    precision: str
    dataset: Dataset = field(init=False)

    def __post_init__(self) -> None:
        """Make the images and the teacher."""
        model, self.dataset, _ = made_up(self.teacher, (3, 32, 32), CLASSES, 1, self.samples, self.device)
        self.model = ready(model)
        self.online = OnlineTeacher(
            self.model,
            self.dataset.plan,
            self.dataset.samples,
            make_encoding({"name": "f16"}, CLASSES),
            batch_size=TEACHER_BATCH,
            precision="ieee",
        )

    @cached_property
    def answers(self) -> Answers:
        """The teacher's answers to all images: valid ones, of a teacher that knows nothing."""
        return self.online(0)

    @property
    def samples(self) -> int:
        """How many samples a call of a case sees."""
        return self.batch_size * self.steps

    def settings(self, method: str, compile: bool) -> Distill:
        """A student's settings."""
        return Distill(
            teacher="teacher",
            student=self.student,
            method=method,
            epochs=1000,
            batch_size=self.batch_size,
            precision=self.precision,  # type: ignore[arg-type]
            compile=compile,
        )


def student(
    pair: Pair, method: str, feed: Callable[[], Iterator[Batch]], compile: bool = False
) -> Callable[[int], object]:
    """So many steps of a new student under a method, on what `feed` yields."""
    settings = pair.settings(method, compile)
    model = new_model(pair.student, pair.dataset, SEED).to(memory_format=torch.channels_last).train()
    optimizer = OPTIMIZERS[settings.optimizer](model, settings)
    schedule = make_schedule(settings.schedule, optimizer, settings, pair.steps)
    gradients = make_gradients(model, partial(distillation_loss, settings), settings, pair.device, pair.steps)

    def run(turn: int) -> None:
        figures: dict[str, Tensor] = {}
        for step, batch in enumerate(feed()):
            note(figures, gradients(*batch), step * pair.batch_size, pair.samples)
            optimizer.step()
            optimizer.zero_grad(set_to_none=pair.device.type == "cpu")
            schedule.step()
        finish(pair)

    return run


def finish(pair: Pair) -> None:
    """Wait until the device is through."""
    if pair.device.type == "cuda":
        torch.cuda.synchronize()


def taught(method: str, cached: bool, compile: bool = False) -> Callable[[Pair], Callable[[int], object]]:
    """A case: a student on rendered views, with the cached answers, the live teacher's, or none."""

    def make(pair: Pair) -> Callable[[int], object]:
        def feed() -> Iterator[Batch]:
            answers = None if method == "ce" else pair.answers if cached else pair.online(0)
            return epoch_of(pair, answers)

        return student(pair, method, feed, compile)

    return make


def ceiling(pair: Pair) -> Callable[[int], object]:
    """A case: the student on one batch of pixels that is always there."""
    batch = next(epoch_of(pair, None))
    return student(pair, "ce", lambda: repeat(batch, pair.steps))


def epoch_of(pair: Pair, answers: Answers | None) -> Iterator[Batch]:
    """The batches that training is fed in its first epoch."""
    samples, plan = pair.dataset.samples, pair.dataset.plan
    order = torch.from_numpy(sample_order(SEED, 0, len(samples))).to(pair.device)
    rows = torch.from_numpy(plan.parameters(0)).to(pair.device)
    return batches(samples, plan, Epoch(order, rows, answers), pair.batch_size, pair.batch_size, CLASSES)


def forward(pair: Pair) -> Callable[[int], object]:
    """A case: the teacher's forward pass over as many samples, pixels that are always there."""
    pixels = torch.rand(TEACHER_BATCH, 3, 32, 32, device=pair.device).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(turn: int) -> None:
        for start in range(0, pair.samples, TEACHER_BATCH):
            pair.model(pixels[: pair.samples - start])
        finish(pair)

    return run


CASES = {
    "ceiling": ceiling,
    "plain CE": taught("ce", cached=True),
    "cached KD": taught("kd", cached=True),
    "cached KA+DTD": taught("ka-ps+dtd-flsw", cached=True),
    "online KD": taught("kd", cached=False),
    "teacher's forward": forward,
}
COMPILED = {"cached KA+DTD, compiled": taught("ka-ps+dtd-flsw", cached=True, compile=True)}


def profile_of(pair: Pair, name: str) -> str:
    """Where a case's time goes: the operators of its steps, by their own time."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if pair.device.type == "cuda" else [])
    run = CASES[name](pair)
    run(0)
    with profile(activities=activities) as found:
        run(1)
    key = "self_device_time_total" if pair.device.type == "cuda" else "self_cpu_time_total"
    return str(found.key_averages().table(sort_by=key, row_limit=20, max_name_column_width=40))

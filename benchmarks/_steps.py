"""The cases of `benchmarks.step`; each call of a case takes a fixed number of training steps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat

import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.student_settings import Distill
from prepkd.methods.entries import make_entries
from prepkd.methods.objective import MethodTerms, Objective
from prepkd.methods.term import Shapes
from prepkd.models import Normalised
from prepkd.models.features import Answers, feature_shapes
from prepkd.models.new import new_model
from prepkd.runtime.allocator import keep_freed_memory
from prepkd.store.encodings import make_encoding
from prepkd.teacher.forward_pass import to_eval
from prepkd.teacher.online import OnlineTeacher
from prepkd.teacher.supply import Supply
from prepkd.training.batches import Batch, Epochs, TeacherAnswers, batches
from prepkd.training.loop import note
from prepkd.training.optimisers import make_optimizer, make_schedule
from prepkd.training.step import SampleValues, make_gradients
from prepkd.views.order import Views
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks._datasets import SEED, made_up

CLASSES = 100
TEACHER_BATCH = 256


@dataclass(frozen=True)
class Remembered:
    """A teacher whose logits and features for its only view are on the device: a store without the cost of reading."""

    answers: Answers
    names: tuple[str, ...]
    prefetch_depth = 1  # as for a cached teacher

    def __call__(self, views: Views) -> Answers:
        """Return the answers for every sample, in the order of samples."""
        return self.answers


@dataclass
class Pair:
    """A teacher and a student on synthetic CIFAR-100 images; a case takes `steps` steps of `batch_size` samples."""

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
        self.model = to_eval(model)
        self.online = self.live()

    def live(self, supply: Supply | None = None) -> OnlineTeacher:
        """Return the live teacher; `supply` gives the features that the terms need."""
        return OnlineTeacher(
            self.model,
            self.dataset,
            make_encoding({"name": "f16"}, CLASSES),
            batch_size=TEACHER_BATCH,
            precision="ieee",
            supply=supply,
        )

    @cached_property
    def cached(self) -> Remembered:
        """The answers of the live teacher, computed once; the teacher's weights are random."""
        return Remembered(self.online(0), self.online.names)

    def cached_for(self, method: str) -> Remembered | None:
        """Compute the teacher's answers that a method needs, once; None for a method without a teacher."""
        settings = self.settings(method, compile=False)
        if not settings.parsed_method.needs_teacher:
            return None
        if not settings.features_read:
            return self.cached
        untrained, size = new_model(self.student, self.dataset, SEED), self.dataset.samples.size
        entries = make_entries({term.name: term for term in settings.terms.feature_terms}, untrained, self.model, size)
        shapes = feature_shapes(untrained, settings.features_read, size)
        live = self.live(Supply(settings.terms.feature_terms, entries, shapes))
        return Remembered(live(0), live.names)

    def shapes(self, terms: MethodTerms, student: Normalised) -> tuple[Shapes, Shapes]:
        """Return the shapes of the features that the terms read, of the student and of the teacher."""
        size = self.dataset.samples.size
        if not terms.feature_terms:
            return {}, {}
        return (
            feature_shapes(student, terms.student_features, size),
            feature_shapes(self.model, terms.teacher_features, size),
        )

    @property
    def samples(self) -> int:
        """Samples per call of a case."""
        return self.batch_size * self.steps

    def settings(self, method: str, compile: bool) -> Distill:
        """Return a student's settings."""
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
    pair: Pair,
    method: str,
    feed: Callable[[], Iterator[Batch]],
    teacher: TeacherAnswers | None = None,
    compile: bool = False,
) -> Callable[[int], object]:
    """Make a case: `pair.steps` steps of a new student with a method, on the batches of `feed`."""
    settings = pair.settings(method, compile)
    terms = settings.terms
    model = new_model(pair.student, pair.dataset, SEED).to(memory_format=torch.channels_last).train()
    objective = Objective(terms, *pair.shapes(terms, model), samples=pair.samples).to(pair.device)
    optimizer = make_optimizer(settings.optimizer, nn.ModuleList([model, objective]), settings)
    schedule = make_schedule(settings.schedule, optimizer, settings, pair.steps)
    names = (*(teacher.names if teacher else ()), *terms.drawn)
    gradients = make_gradients(model, objective, names, settings, pair.device, pair.steps)

    def run(turn: int) -> None:
        figures: SampleValues = {}
        for step, batch in enumerate(feed()):
            note(figures, gradients(*batch), step * pair.batch_size, pair.samples)
            optimizer.step()
            optimizer.zero_grad(set_to_none=pair.device.type != "cuda")
            schedule.step()
        finish(pair)

    return run


def finish(pair: Pair) -> None:
    """Wait until the device has finished."""
    if pair.device.type == "cuda":
        torch.cuda.synchronize()


def taught(
    method: str, teacher_of: Callable[[Pair], TeacherAnswers | None], compile: bool = False
) -> Callable[[Pair], Callable[[int], object]]:
    """Return a function that makes a case: a student on rendered views, with one of the pair's teachers or none."""

    def make(pair: Pair) -> Callable[[int], object]:
        teacher, terms = teacher_of(pair), pair.settings(method, compile).terms
        return student(pair, method, lambda: epoch_of(pair, teacher, terms), teacher, compile)

    return make


def ceiling(pair: Pair) -> Callable[[int], object]:
    """Make a case: the student on one batch of pixels that stays in memory."""
    batch = next(epoch_of(pair, None))
    return student(pair, "ce", lambda: repeat(batch, pair.steps))


def epoch_of(pair: Pair, teacher: TeacherAnswers | None, terms: MethodTerms | None = None) -> Iterator[Batch]:
    """Return the batches of training's first epoch with the random draws of `terms`; a live teacher runs on all of it first."""
    epochs = Epochs(pair.dataset, lambda epoch: 0, SEED, teacher, draws=terms)
    return batches(pair.dataset, epochs.read(0), epochs.answer_names, pair.batch_size, pair.batch_size)


def forward(pair: Pair) -> Callable[[int], object]:
    """Make a case: the teacher's forward pass over as many samples, on pixels that stay in memory."""
    pixels = torch.rand(TEACHER_BATCH, 3, 32, 32, device=pair.device).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(turn: int) -> None:
        for start in range(0, pair.samples, TEACHER_BATCH):
            pair.model(pixels[: pair.samples - start])
        finish(pair)

    return run


def chosen_device(name: str | None, threads: int) -> torch.device:
    """Return the named device, else a GPU if there is one; on a CPU also set the number of threads and keep freed memory."""
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cpu":
        torch.set_num_threads(threads)
        keep_freed_memory()
    return device


CASES = {
    "ceiling": ceiling,
    "plain CE": taught("ce", lambda pair: None),
    "cached KD": taught("kd", lambda pair: pair.cached),
    "cached KA+DTD": taught("ka-ps+dtd-flsw", lambda pair: pair.cached),
    "online KD": taught("kd", lambda pair: pair.online),
    "teacher's forward": forward,
}
COMPILED = {"cached KA+DTD, compiled": taught("ka-ps+dtd-flsw", lambda pair: pair.cached, compile=True)}


def profile_of(pair: Pair, name: str) -> str:
    """Profile a case; returns a table of its operators, sorted by their own time."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if pair.device.type == "cuda" else [])
    run = CASES[name](pair)
    run(0)
    with profile(activities=activities) as found:
        run(1)
    key = "self_device_time_total" if pair.device.type == "cuda" else "self_cpu_time_total"
    return str(found.key_averages().table(sort_by=key, row_limit=20, max_name_column_width=40))

"""One epoch's batches: pixels, labels, the teacher's answers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.samples import Samples
from prepkd.models.features import STRONG
from prepkd.runtime import distributed
from prepkd.runtime.prefetch import prefetch
from prepkd.runtime.streams import DrawContext, Purpose, torch_seed
from prepkd.views import ViewPlan
from prepkd.views.order import Views, sample_order

# Pixels float32 (n, C, H, W), channels last, of this process's share of the samples; labels (B,) or (B, K); the batch's share
# of its step's samples, (); then the tensors of `Epochs.answer_names`: the teacher's answers and the terms' draws (B, ...), the
# strong views' pixels (n, C, H, W).
Batch = tuple[Tensor, ...]

STRONG_PIXELS = f"{STRONG}pixels"
# Bytes of pixels on a GPU. Many batches share their kernel launches, except those of resized-crop, which come per image.
RENDERED_AT_ONCE = 2**28


class Draws(Protocol):
    """The random arrays that an objective's terms draw before each epoch."""

    @property
    def drawn(self) -> tuple[str, ...]:
        """The names of the arrays."""

    def draw(self, at: DrawContext) -> Mapping[str, NDArray[np.generic]]:
        """Draw the arrays (N, ...), one row per training sample; return them by name."""


class TeacherAnswers(Protocol):
    """A teacher's answers, by name, to the views of an epoch."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the answers."""

    @property
    def prefetch_depth(self) -> int:
        """The number of epochs to prefetch."""

    def __call__(self, views: Views) -> Mapping[str, Tensor]:
        """Return named tensors (N, ...), in sample order, on the training device: "logits" z - max(z), "row_max" max(z)."""


@dataclass(frozen=True)
class Epoch:
    """An epoch's sample order, int64 (N,); its view parameters (N, p); the teacher's answers and the terms' draws per sample.

    `strong` is the plan of the strong views and their parameters (N, q), if steps show two views. The order and the parameters
    are on the samples' index device, all other tensors on the training device.
    """

    order: Tensor
    rows: Tensor
    answers: Mapping[str, Tensor]
    strong: tuple[ViewPlan, Tensor] | None = None


@dataclass(frozen=True)
class Streams:
    """The random streams of a run's seed, one per epoch and purpose: the sample order, and draws inside models (dropout)."""

    order: Purpose
    dropout: Purpose


STUDENT = Streams(Purpose.STUDENT_ORDER, Purpose.STUDENT_DROPOUT)
TEACHER = Streams(Purpose.TEACHER_ORDER, Purpose.TEACHER_DROPOUT)


@dataclass(frozen=True)
class Epochs:
    """The epochs of a run: their order, views and answers are functions of (seed, epoch); `views_of` maps epoch to views.

    `strong` is the plan of the strong views, if steps show two views; strong and weak views of an epoch have the same numbers.
    """

    dataset: Dataset
    views_of: Callable[[int], Views]
    seed: int
    teacher: TeacherAnswers | None = None
    streams: Streams = STUDENT
    draws: Draws | None = None
    strong: ViewPlan | None = None

    @property
    def answer_names(self) -> tuple[str, ...]:
        """The names of the teacher's answers, the terms' draws and the strong views' pixels, in this order."""
        drawn, pixels = self.draws.drawn if self.draws else (), (STRONG_PIXELS,) if self.strong else ()
        return (*(self.teacher.names if self.teacher else ()), *drawn, *pixels)

    @property
    def prefetch_depth(self) -> int:
        """The number of epochs to prefetch."""
        return self.teacher.prefetch_depth if self.teacher else 1

    def dropout_seed(self, epoch: int) -> int:
        """The seed of torch's generators in one epoch."""
        return torch_seed(self.seed, self.streams.dropout.stream(epoch))

    def read(self, epoch: int) -> Epoch:
        """Return one epoch: read a cached teacher's answers, or run a live teacher."""
        samples, views = self.dataset.samples, self.views_of(epoch)
        order = torch.from_numpy(sample_order(self.seed, epoch, len(samples), self.streams.order))
        rows = torch.from_numpy(self.dataset.plan.parameters(views))
        answers = dict(self.teacher(views)) if self.teacher else {}
        if self.draws:
            at = DrawContext(self.seed, epoch, len(samples), self.dataset.classes)
            answers |= {name: torch.from_numpy(array).to(samples.device) for name, array in self.draws.draw(at).items()}
        device = samples.index_device
        strong = (self.strong, torch.from_numpy(self.strong.parameters(views)).to(device)) if self.strong else None
        return Epoch(order.to(device), rows.to(device), answers, strong)


def batches(dataset: Dataset, epoch: Epoch, answer_names: Sequence[str], size: int, group: int) -> Iterator[Batch]:
    """Yield an epoch's batches of `size` samples, the last one possibly shorter; `group` is the number of samples per step.

    With several processes, each renders its share of every batch; labels and answers are those of the whole batch.
    With an idle processor, and for encoded images, a thread renders the next batches ahead; a GPU that holds the images renders
    many batches at once. A batch's content does not depend on either.
    """
    samples, plan, count = dataset.samples, dataset.plan, len(epoch.order)
    given = [name for name in answer_names if name != STRONG_PIXELS]  # a batch ends with the strong pixels
    shares = {
        part: torch.tensor(part, dtype=torch.float64, device=samples.device) for part in _shares(count, size, group)
    }

    # For labels and answers; a copy per epoch, since one per batch would wait for the steps that are queued.
    order, all_rows = epoch.order.to(samples.device), epoch.rows.to(samples.device)

    def made() -> Iterator[Batch]:
        block = _block(samples, size)
        for first in range(0, count, block):
            chosen = order[first : first + block]
            shown = epoch.order[first : first + block][distributed.rank_slice(len(chosen))]
            pixels = _pixels(samples, plan, shown, epoch.rows[shown])
            labels = samples.targets(plan, chosen, all_rows[chosen], dataset.classes)
            strong = _strong(samples, epoch, shown)
            for start in range(0, len(chosen), size):
                part = slice(start, start + size)
                teacher = (epoch.answers[name][chosen[part]] for name in given)
                share = shares[_share(first + start, count, size, group)]
                yield pixels[part], labels[part], share, *teacher, *(one[part] for one in strong)

    return prefetch(made(), samples.prefetch_depth)


def _strong(samples: Samples, epoch: Epoch, chosen: Tensor) -> list[Tensor]:
    """The pixels of the chosen samples' strong views, if the epoch has them."""
    if epoch.strong is None:
        return []
    plan, rows = epoch.strong
    return [_pixels(samples, plan, chosen, rows[chosen])]


def _pixels(samples: Samples, plan: ViewPlan, chosen: Tensor, rows: Tensor) -> Tensor:
    """Render the chosen samples, channels last; an empty tensor for a process without a share of a short batch."""
    if not len(chosen):
        return torch.empty(0, samples.channels, *samples.size, device=samples.device)
    return samples.pixels(plan, chosen, rows).contiguous(memory_format=torch.channels_last)


def _share(start: int, count: int, size: int, group: int) -> float:
    """Return a batch's share of its step's samples, its weight in the step: the step minimises the mean over all of them."""
    return min(size, count - start) / min(group, count - start // group * group)


def _shares(count: int, size: int, group: int) -> set[float]:
    return {_share(start, count, size, group) for start in range(0, count, size)}


def _block(samples: Samples, size: int) -> int:
    """Return the number of samples to render at once, a multiple of the batch size; a single batch if processes share it."""
    if not samples.resident or distributed.world_size() > 1:
        return size
    assert isinstance(samples.images, Tensor)
    channels, height, width = samples.images.shape[1:]
    return max(1, RENDERED_AT_ONCE // (4 * channels * height * width * size)) * size

"""What training steps are fed: an epoch's samples in their order, as their views show them, with the teacher's answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.samples.samples import Samples
from prepkd.runtime.prefetch import prefetch
from prepkd.store.encodings import Decoded
from prepkd.views import ViewPlan

# Pixels float32 (B, C, H, W), channels last; labels (B,) or (B, K); the batch's share of its step's samples, (); and where there
# is a teacher its offsets (B, K) and row maxima (B,).
Batch = tuple[Tensor, ...]

Views = int | NDArray[np.int64]  # one view for all samples, or one for each


class Answering(Protocol):
    """A teacher: its answers for every sample, in the order of samples, to the views that these are shown."""

    @property
    def prefetch_depth(self) -> int:
        """How many epochs before they begin it should be asked."""

    def __call__(self, views: Views) -> Decoded:
        """z - max(z) (N, K) and max(z) (N,), on the training device."""


RENDERED_AT_ONCE = 2**28  # bytes of pixels on a GPU: few launches for many batches


@dataclass(frozen=True)
class Epoch:
    """An epoch's order, int64 (N,); its views' integers (N, p) and the teacher's answers, by sample; all on the device."""

    order: Tensor
    rows: Tensor
    answers: Decoded | None


def batches(samples: Samples, plan: ViewPlan, epoch: Epoch, size: int, group: int, classes: int) -> Iterator[Batch]:
    """An epoch's batches of `size`, the last one shorter, in steps of `group` samples; made ahead, while others are used.

    Where a processor is idle, and where images are decoded, the next ones are rendered in a thread of their own; on a GPU that
    has the images many at once, by few kernels.
    What a batch holds does not depend on either.
    """
    count = len(epoch.order)
    shares = {
        part: torch.tensor(part, dtype=torch.float64, device=samples.device) for part in _shares(count, size, group)
    }

    def made() -> Iterator[Batch]:
        block = _block(samples, size)
        for first in range(0, count, block):
            chosen = epoch.order[first : first + block]
            rows = epoch.rows[chosen]
            pixels = samples.pixels(plan, chosen, rows).contiguous(memory_format=torch.channels_last)
            labels = samples.targets(plan, chosen, rows, classes)
            for start in range(0, len(chosen), size):
                part = slice(start, start + size)
                answers = tuple(one[chosen[part]] for one in epoch.answers or ())
                share = shares[_share(first + start, count, size, group)]
                yield pixels[part], labels[part], share, *answers

    return prefetch(made(), samples.prefetch_depth)


def _share(start: int, count: int, size: int, group: int) -> float:
    """A batch's share of its step's samples: a step's gradient is that of the mean over all of them."""
    return min(size, count - start) / min(group, count - start // group * group)


def _shares(count: int, size: int, group: int) -> set[float]:
    return {_share(start, count, size, group) for start in range(0, count, size)}


def _block(samples: Samples, size: int) -> int:
    """How many samples are rendered at once: whole batches."""
    if not samples.resident:
        return size
    assert isinstance(samples.images, Tensor)
    channels, height, width = samples.images.shape[1:]
    return max(1, RENDERED_AT_ONCE // (4 * channels * height * width * size)) * size

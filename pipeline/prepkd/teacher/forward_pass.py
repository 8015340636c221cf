"""The teacher's logits of rendered views; their bits do not depend on the caller or the order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.samples import Samples
from prepkd.models.features import Answers
from prepkd.runtime.prefetch import prefetch
from prepkd.runtime.torch_state import arithmetic
from prepkd.views import ViewPlan

M = TypeVar("M", bound=nn.Module)


def to_eval(model: M) -> M:
    """Put a teacher into evaluation mode and channels-last memory format."""
    return model.eval().to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class SampleViews:
    """Samples under views: their indices `chosen`, int64 (N,), and their rows of the plan's integers (N, p)."""

    samples: Samples
    plan: ViewPlan
    chosen: Tensor
    rows: Tensor

    @classmethod
    def of(cls, dataset: Dataset, view: int, part: slice) -> "SampleViews":
        """A range of a dataset's samples under one view."""
        return cls(dataset.samples, dataset.plan, *dataset.samples.view_rows(dataset.plan, view, part))

    def __len__(self) -> int:
        return len(self.chosen)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Render fixed slices, the last one padded to full size with black: float32 (size, C, H, W), channels last."""
        for start in range(0, len(self), size):
            batch = slice(start, start + size)
            pixels = self.samples.pixels(self.plan, self.chosen[batch], self.rows[batch])
            if missing := size - len(pixels):
                pixels = torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])])
            yield pixels.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def forward(
    teacher: Callable[[Tensor], Answers],
    pictures: SampleViews,
    *,
    batch_size: int,
    precision: str,
    teacher_tensors: Callable[[Answers], Answers] = lambda features: {},
) -> dict[str, Tensor]:
    """The teacher's "logits" float32 (N, K) of the pictures, and the tensors that `teacher_tensors` computes from its features.

    The last bits depend on a batch's shape, so a sample must always be computed at the same place of a batch of the same shape.
    """
    parts: dict[str, list[Tensor]] = {}
    samples = pictures.samples
    with arithmetic(precision, samples.device):
        for pixels in prefetch(pictures.batches(batch_size), samples.prefetch_depth):
            answers = teacher(pixels)
            for name, value in {"logits": answers["logits"], **teacher_tensors(answers)}.items():
                parts.setdefault(name, []).append(value.float() if value.is_floating_point() else value)
    return {name: torch.cat(values)[: len(pictures)] for name, values in parts.items()}


def raw_logits(teacher: nn.Module, pictures: SampleViews, *, batch_size: int, precision: str) -> Tensor:
    """The teacher's logits alone, float32 (N, K); see `forward`."""

    def answers(pixels: Tensor) -> Answers:
        return {"logits": teacher(pixels)}

    return forward(answers, pictures, batch_size=batch_size, precision=precision)["logits"]

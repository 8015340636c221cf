"""One byte per logit: 254 steps between each row's maximum and its minimum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.store.encodings.base import MAX_FLOAT, ArraySpec, LogitEncoding, finite, gaps, lowest

STEPS = 254  # the bytes 2 to 255; 1 is the maximum, 0 means "missing"


@dataclass(frozen=True)
class U8(LogitEncoding):
    """Affine per row: 1 at the maxima, else 1 + ceil(gap / step), step = range / 254; a gap decodes to its step's middle."""

    name: ClassVar[str] = "u8"

    @property
    def fields(self) -> dict[str, ArraySpec]:
        """`logits` (K,), `step` and `row_max`."""
        return {
            "logits": ArraySpec((self.classes,), np.dtype("uint8"), 0, problem=lowest(1)),
            "step": ArraySpec((), np.dtype("float32"), np.nan, problem=_steps_problem),
            "row_max": ArraySpec((), np.dtype("float32"), np.nan, problem=finite),
        }

    def encode(self, raw: Tensor, labels: Tensor, words: Tensor | None = None) -> dict[str, Tensor]:
        """Encode raw logits (N, K) as bytes, steps and maxima; raises InputError for a non-finite value."""
        gap, row_max = gaps(raw)
        # A row of ties has a range of zero, and the smallest ranges and gaps underflow: keep them above zero.
        step = (gap.amax(dim=-1) / STEPS).clamp(min=torch.finfo(torch.float32).tiny)
        level = torch.ceil(gap / step.unsqueeze(-1)).clamp(max=STEPS)
        level = level.masked_fill((level == 0) & (gap > 0), 1)
        return {"logits": (level + 1).to(torch.uint8), "step": step, "row_max": row_max}

    def decode(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Offsets in float32: zero at the maxima, minus (level - 1/2) step elsewhere."""
        level = stored["logits"].float() - 1
        offsets = -(level - 0.5) * stored["step"].unsqueeze(-1)
        return {"logits": offsets.masked_fill(level == 0, 0), "row_max": stored["row_max"]}

    def largest_error(self, stored: Mapping[str, Tensor]) -> Tensor:
        """Half a step and its rounding; zero at the maxima."""
        bound = (0.5001 * stored["step"]).unsqueeze(-1).expand(stored["logits"].shape)
        return bound.masked_fill(stored["logits"] == 1, 0)


def _steps_problem(steps: NDArray[np.float32]) -> str:
    wrong = ~((steps > 0) & (steps <= MAX_FLOAT / STEPS))
    return f"{int(wrong.sum())} of its steps are not above 0 and finite" if wrong.any() else ""

"""float16 offsets from each row's maximum: the default, practically lossless at any temperature."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.store.encodings.base import NO_MAXIMUM, ArraySpec, LogitEncoding, finite, gaps

MIN_GAP = 2.0**-24  # float16's smallest subnormal
MAX_GAP = 65504.0  # float16's largest finite value


def half_offsets(gap: Tensor) -> Tensor:
    """Convert gaps >= 0 to float16 offsets <= 0; a nonzero gap is rounded to no less than the smallest subnormal."""
    half = (0 - gap).half()  # not -gap: its zero would be negative
    return half.masked_fill((half == 0) & (gap > 0), -MIN_GAP)


def half_error(offsets: Tensor) -> Tensor:
    """The bound on a float16 offset's rounding error, float32."""
    return torch.clamp(offsets.float().abs() * 2.0**-11, min=MIN_GAP)


MIN_BITS = np.float16(-MAX_GAP).view(np.uint16)


def half_problem(offsets: NDArray[np.float16]) -> str:
    """Say what is wrong with float16 offsets (N, k); '' where all are finite and <= 0, and each row has a 0."""
    # By bits, which is many times faster than float16's own comparisons: as int16, +0 is 0, numbers above it are above 0, and
    # numbers below 0 are below it; as uint16, -infinity and negative NaN are above the lowest number.
    if not offsets.view(np.int16).max(axis=-1).any() and offsets.view(np.uint16).max() <= MIN_BITS:
        return ""
    if bad := np.count_nonzero(~np.isfinite(offsets)):
        return f"{bad} of its values are not finite"
    if bad := np.count_nonzero(offsets > 0):
        return f"{bad} of its values are above 0, the row's maximum"
    bad = np.count_nonzero(offsets.max(axis=-1))
    return f"{bad} {NO_MAXIMUM}" if bad else ""  # -0 is a maximum


@dataclass(frozen=True)
class F16(LogitEncoding):
    """z - max(z) in float16, max(z) in float32; take argmax on the offsets, not on their sum with the maximum."""

    name: ClassVar[str] = "f16"

    @property
    def fields(self) -> dict[str, ArraySpec]:
        """`logits` (K,) and `row_max`."""
        return {
            "logits": ArraySpec((self.classes,), np.dtype("float16"), np.nan, problem=half_problem),
            "row_max": ArraySpec((), np.dtype("float32"), np.nan, problem=finite),
        }

    def encode(self, raw: Tensor, labels: Tensor, words: Tensor | None = None) -> dict[str, Tensor]:
        """Encode raw logits (N, K) as offsets and maxima; raises InputError for a range above 65,504 or a non-finite value."""
        gap, row_max = gaps(raw, MAX_GAP)
        return {"logits": half_offsets(gap), "row_max": row_max}

    def decode(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The stored offsets, float16, and maxima."""
        return {"logits": stored["logits"], "row_max": stored["row_max"]}

    def largest_error(self, stored: Mapping[str, Tensor]) -> Tensor:
        """Half a unit in float16's last place, and no less than its smallest subnormal."""
        return half_error(stored["logits"])

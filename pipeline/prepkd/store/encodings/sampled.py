"""n classes per row, drawn by the teacher's probabilities: `kd` at the draw's temperature keeps its expected gradient."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.samples.labels import has_share
from prepkd.errors import InputError
from prepkd.store.encodings.base import DRAW_BITS, LOG_WEIGHTS, ArraySpec, LogitEncoding, finite, gaps
from prepkd.store.encodings.f16 import MAX_GAP, half_offsets, half_problem
from prepkd.store.encodings.kept_classes import (
    ids_dtype,
    ids_problem,
    lse_of,
    lse_problem,
    pairs_error,
    tail_of,
    tail_problem,
)

ONE = 2**DRAW_BITS  # probabilities of inclusion are whole multiples of 1 / ONE: integer sums are the same in any order
MAX_LOG_WEIGHT = DRAW_BITS * math.log(2)
MIN_MASS = 1e-250  # of exp(o / tau): float64 divides sums of such masses


@dataclass(frozen=True)
class Sampled(LogitEncoding):
    """n (class, offset) pairs: the first maximum and the label (both labels of a mixed view) always, the others by a draw.

    Class k is kept with probability pi_k = min(1, exp((o_k - threshold) / tau)), exactly n classes per row; its weight is
    1 / pi_k. So the expected value of w_k exp(o_k / tau) is exp(o_k / tau) for every class, and its sum over the kept ones is
    the full row's, draw by draw: the weighted softmax at `tau` is an unbiased estimate of softmax(z / tau). At another
    temperature the sum varies, so that estimate is biased, by O(1 / n). Systematic sampling with unequal probabilities (Madow
    1949): one random word per row. Raises InputError unless 2 < n < classes and tau is above 0 and at most 1000.
    """

    name: ClassVar[str] = "sampled"
    settings: ClassVar[tuple[str, ...]] = ("n", "tau")
    answers: ClassVar[tuple[str, ...]] = (*LogitEncoding.answers, LOG_WEIGHTS)
    draws: ClassVar[bool] = True
    n: Annotated[int, pydantic.Field(ge=3)] = 16
    tau: Annotated[float, pydantic.Field(gt=0, le=1000)] = 4.0

    def __post_init__(self) -> None:
        if type(self.n) is not int or not 2 < self.n < self.classes:
            raise InputError(
                f"cache.sampled.n is {self.n}; expected 3 to {self.classes - 1}, below the number of classes"
            )
        if type(self.tau) not in (int, float) or not 0 < self.tau <= 1000:
            raise InputError(f"cache.sampled.tau is {self.tau!r}; expected a number above 0, at most 1000")

    @property
    def fields(self) -> dict[str, ArraySpec]:
        """`logits` (n,), `ids` (n,), `fixed` (the number of leading pairs that were not drawn), `threshold`, and as `topk` `lse`,
        `tail`, `row_max`.
        """
        ids = ids_dtype(self.classes)
        return {
            "logits": ArraySpec((self.n,), np.dtype("float16"), np.nan, problem=half_problem),
            "ids": ArraySpec((self.n,), ids, np.iinfo(ids).max, is_index=True, problem=ids_problem(self.classes)),
            "fixed": ArraySpec((), np.dtype("uint8"), 255, problem=self._fixed_problem),
            "threshold": ArraySpec((), np.dtype("float32"), np.nan, problem=self._threshold_problem),
            "lse": ArraySpec((), np.dtype("float32"), np.nan, problem=lse_problem(self.classes)),
            "tail": ArraySpec((), np.dtype("float32"), np.nan, problem=tail_problem),
            "row_max": ArraySpec((), np.dtype("float32"), np.nan, problem=finite),
        }

    def encode(self, raw: Tensor, labels: Tensor, words: Tensor | None = None) -> dict[str, Tensor]:
        """Encode raw logits (N, K), labels (N,) or (N, K), by each row's random word; pairs by class, the fixed ones first.

        Raises InputError as `f16`, and if the labels leave no room for a draw; ValueError without words.
        """
        if words is None:
            raise ValueError("sampled draws: expected a random word per row, from `words_of`")
        gap, row_max = gaps(raw, MAX_GAP)
        fixed = has_share(labels, self.classes).scatter(1, _first_maximum(gap), True)
        count = fixed.sum(dim=-1)
        if len(count) and (most := int(count.max())) >= self.n:
            raise InputError(
                f"cache.sampled.n is {self.n}; expected at least {most + 1}: views mix {most - 1} labels, which are kept, as "
                "is the maximum"
            )
        threshold, shares = self._inclusion(gap, fixed)
        upper = shares.cumsum(dim=-1) + self._start(shares, words).unsqueeze(-1)
        kept = (upper >> DRAW_BITS) > ((upper - shares) >> DRAW_BITS)
        ids = kept.nonzero()[:, 1].view(-1, self.n)
        ids = ids.gather(1, fixed.gather(1, ids).logical_not().byte().argsort(dim=-1, stable=True))
        return {
            "logits": half_offsets(gap.gather(1, ids)),
            "ids": ids,
            "fixed": count.to(torch.uint8),
            "threshold": threshold.float(),
            "lse": lse_of(gap),
            "tail": tail_of(gap, ids),
            "row_max": row_max,
        }

    def decode(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Offsets as of `topk`; `log_weights`, -ln pi of the kept classes, 0 if certain, and -inf of the others, float32."""
        ids, offsets = stored["ids"].long(), stored["logits"].float()
        tail = stored["tail"].unsqueeze(-1).expand(-1, self.classes)
        lowest = self.tau * math.log(MIN_MASS)
        weights = (stored["threshold"].unsqueeze(-1) - offsets.clamp(min=lowest)) / self.tau
        weights = weights.clamp(0, MAX_LOG_WEIGHT).masked_fill(self._is_fixed(stored), 0)
        left_out = torch.full((len(ids), self.classes), -torch.inf, device=ids.device)
        return {
            "logits": tail.scatter(1, ids, offsets),
            "row_max": stored["row_max"],
            LOG_WEIGHTS: left_out.scatter(1, ids, weights),
        }

    def largest_error(self, stored: Mapping[str, Tensor]) -> Tensor:
        """float16's rounding error for the kept classes, infinite for the others."""
        return pairs_error(stored, self.classes)

    def draw_error(self, stored: Mapping[str, Tensor], raw: Tensor, labels: Tensor, words: Tensor | None) -> Tensor:
        """The smallest error of the logits that explains each row's draw, float64 (N,), 0 for the draw that `encode` makes.

        `raw` are finite logits (N, K). An error e of the logits moves the threshold by up to e and a class's place in the draw
        by up to 2 n e / tau, and can make a class the maximum that is up to 2 e below it.
        """
        assert words is not None
        gap, ids = gaps(raw, MAX_GAP)[0], stored["ids"].long().clamp(max=self.classes - 1)
        certain = self._is_fixed(stored)
        fixed = torch.zeros_like(gap, dtype=torch.bool).scatter(1, ids, certain)
        labelled = has_share(labels, self.classes)
        threshold, shares = self._inclusion(gap, fixed | labelled)
        upper = shares.cumsum(dim=-1) + self._start(shares, words).unsqueeze(-1)
        lower = upper - shares
        # A class is drawn if a multiple of ONE is in (lower, upper]; else the nearest one is this far.
        below = lower - ((upper >> DRAW_BITS) << DRAW_BITS) + 1
        far = torch.minimum(below, ONE - (upper & (ONE - 1))).clamp(min=0).double() / ONE
        drawn = far.gather(1, ids).masked_fill(certain, 0).amax(dim=-1) * self.tau / (2 * self.n)
        maximum = gap.double().masked_fill(~fixed | labelled, 0).amax(dim=-1) / 2
        unfixed = (labelled & ~fixed).any(dim=-1)
        error = torch.stack([(stored["threshold"].double() - threshold).abs(), drawn, maximum]).amax(dim=0)
        return error.masked_fill(unfixed, torch.inf)

    def _inclusion(self, gap: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        """The threshold, float64 (N,), and pi in units of 1 / ONE, int64 (N, K), whose sum is n up to rounding down."""
        mass = torch.exp(-gap.double() / self.tau).clamp(min=MIN_MASS).masked_fill(fixed, 0)
        left = self.n - fixed.sum(dim=-1)
        largest = mass.topk(self.n, dim=-1)
        # With the s largest classes certain and the rest drawn, the threshold is (sum of the rest) / (left - s), for the smallest
        # s at which no share exceeds 1. Sums run from small to large values: no difference of large numbers.
        rest = mass.scatter(1, largest.indices, 0).sum(dim=-1)
        threshold = rest
        for s in reversed(range(self.n)):
            rest = rest + largest.values[:, s]
            found = rest / (left - s).clamp(min=1)
            threshold = torch.where((s < left) & (largest.values[:, s] <= found), found, threshold)
        shares = (mass / threshold.unsqueeze(-1)).clamp(max=1)
        return self.tau * threshold.log(), (shares * ONE).long().masked_fill(fixed, ONE)

    def _start(self, shares: Tensor, words: Tensor) -> Tensor:
        """The draw's start, int64 (N,), uniform in [0, ONE) except for the few values that would not draw n classes."""
        short = self.n * ONE - shares.sum(dim=-1)
        start = torch.maximum(words.to(shares.device), short)
        return torch.minimum(start, ONE - 1 + short.clamp(max=0))

    def _is_fixed(self, stored: Mapping[str, Tensor]) -> Tensor:
        return torch.arange(self.n, device=stored["ids"].device) < stored["fixed"].unsqueeze(-1)

    def _fixed_problem(self, fixed: NDArray[np.uint8]) -> str:
        bad = np.count_nonzero((fixed < 1) | (fixed >= self.n))
        return f"{bad} of its values are not 1 to {self.n - 1}" if bad else ""

    def _threshold_problem(self, threshold: NDArray[np.float32]) -> str:
        # The mean of at least the smallest mass, and at most of all classes', over one draw.
        least, most = self.tau * math.log(MIN_MASS), self.tau * math.log(self.classes)
        bad = np.count_nonzero(~((threshold >= least - 1e-3) & (threshold <= most + 1e-3)))
        return f"{bad} of its values are not {least:.6g} to {most:.6g}" if bad else ""


def _first_maximum(gap: Tensor) -> Tensor:
    """The first class at each row's maximum, int64 (N, 1)."""
    return (gap == 0).byte().argmax(dim=-1, keepdim=True)

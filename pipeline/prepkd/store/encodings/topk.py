"""The k largest logits, the label's included, with the true log-sum-exp; the other classes share the rest evenly."""

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
from prepkd.store.encodings.base import Field, LogitEncoding, finite, gaps
from prepkd.store.encodings.f16 import LARGEST_GAP, SMALLEST_GAP, half_error, half_offsets, half_problem


@dataclass(frozen=True)
class TopK(LogitEncoding):
    """k (class, offset) pairs, the label's (both labels' in a mixed view) always among them; each dropped class decodes to
    the log of the dropped classes' mean exp.

    At tau 1 the probabilities of the kept classes and the mass of the others are the teacher's; at other temperatures the
    flat tail is an approximation. Raises InputError unless 1 < k < classes.
    """

    name: ClassVar[str] = "topk"
    settings: ClassVar[tuple[str, ...]] = ("k",)
    k: Annotated[int, pydantic.Field(ge=2)] = 16

    def __post_init__(self) -> None:
        if type(self.k) is not int or not 1 < self.k < self.classes:
            raise InputError(f"cache.topk.k is {self.k}; expected 2 to {self.classes - 1}, below the number of classes")

    @property
    def fields(self) -> dict[str, Field]:
        """`logits` (k,), `ids` (k,), `lse` (of the offsets), `tail` (the offset of each dropped class), `row_max`."""
        # The type's largest value is reserved for "missing".
        ids = next(dtype for dtype in ("uint8", "uint16", "uint32") if self.classes <= np.iinfo(dtype).max)
        return {
            "logits": Field((self.k,), np.dtype("float16"), np.nan, problem=half_problem),
            "ids": Field((self.k,), np.dtype(ids), np.iinfo(ids).max, problem=self._ids_problem),
            "lse": Field((), np.dtype("float32"), np.nan, problem=self._lse_problem),
            "tail": Field((), np.dtype("float32"), np.nan, problem=_tail_problem),
            "row_max": Field((), np.dtype("float32"), np.nan, problem=finite),
        }

    def encode(self, raw: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Encode raw logits (N, K), labels (N,) or (N, K), as pairs by falling logit, ties by class; raises as `f16`."""
        gap, row_max = gaps(raw, LARGEST_GAP)
        labelled = has_share(labels, self.classes)
        most = int(labelled.sum(dim=-1).max())
        if most >= self.k:
            raise InputError(
                f"cache.topk.k is {self.k}; expected at least {most + 1}: views mix {most} labels, and the maximum is kept too"
            )
        order = gap.sort(dim=-1, stable=True).indices
        # Labels below the k largest take the last places; the row's maximum, first in order, always stays.
        first = labelled.gather(1, order)
        places = first.logical_not().byte().argsort(dim=-1, stable=True)[:, : self.k].sort(dim=-1).values
        ids = order.gather(1, places)
        # In float64: the tail's mass must not be a difference of large numbers.
        left = -gap.double().scatter(1, ids, torch.inf)
        tail = left.logsumexp(dim=-1) - math.log(self.classes - self.k)
        return {
            "logits": half_offsets(gap.gather(1, ids)),
            "ids": ids,
            "lse": (-gap).double().logsumexp(dim=-1).float(),
            # Below zero even if more classes tie at the maximum than are kept: argmax must name a kept one.
            "tail": tail.float().clamp(max=-SMALLEST_GAP),
            "row_max": row_max,
        }

    def decode(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Offsets in float32: those of the kept classes, and the tail's for every other class."""
        tail = stored["tail"].unsqueeze(-1).expand(-1, self.classes)
        offsets = tail.scatter(1, stored["ids"].long(), stored["logits"].float())
        return {"logits": offsets, "row_max": stored["row_max"]}

    def largest_error(self, stored: Mapping[str, Tensor]) -> Tensor:
        """float16's rounding error for the kept classes, infinite for the others."""
        bound = half_error(stored["logits"])
        left_out = torch.full((len(bound), self.classes), torch.inf)
        return left_out.to(bound.device).scatter(1, stored["ids"].long(), bound)

    def _ids_problem(self, ids: NDArray[np.unsignedinteger]) -> str:
        if bad := np.count_nonzero(ids >= self.classes):
            return f"{bad} of its class ids are not below {self.classes}"
        ordered = np.sort(ids, axis=-1)
        bad = np.count_nonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=-1))
        return f"{bad} of its rows name a class twice" if bad else ""

    def _lse_problem(self, lse: NDArray[np.float32]) -> str:
        most = math.log(self.classes) * (1 + 1e-6)  # of equal logits; rounded to float32
        bad = np.count_nonzero(~((lse >= 0) & (lse <= most)))
        return f"{bad} of its values are no log-sum-exp of {self.classes} offsets" if bad else ""


def _tail_problem(tail: NDArray[np.float32]) -> str:
    bad = np.count_nonzero(~((tail < 0) & (tail > -np.inf)))
    return f"{bad} of its values are not below 0 and finite" if bad else ""

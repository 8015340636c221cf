"""The k largest logits, the label's included, with the true log-sum-exp; the other classes share the rest evenly."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pydantic
from torch import Tensor

from prepkd.data.samples.labels import has_share
from prepkd.errors import InputError
from prepkd.store.encodings.base import ArraySpec, LogitEncoding, finite, gaps
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
    def fields(self) -> dict[str, ArraySpec]:
        """`logits` (k,), `ids` (k,), `lse` (of the offsets), `tail` (the offset of each dropped class), `row_max`."""
        ids = ids_dtype(self.classes)
        return {
            "logits": ArraySpec((self.k,), np.dtype("float16"), np.nan, problem=half_problem),
            "ids": ArraySpec((self.k,), ids, np.iinfo(ids).max, is_index=True, problem=ids_problem(self.classes)),
            "lse": ArraySpec((), np.dtype("float32"), np.nan, problem=lse_problem(self.classes)),
            "tail": ArraySpec((), np.dtype("float32"), np.nan, problem=tail_problem),
            "row_max": ArraySpec((), np.dtype("float32"), np.nan, problem=finite),
        }

    def encode(self, raw: Tensor, labels: Tensor, words: Tensor | None = None) -> dict[str, Tensor]:
        """Encode raw logits (N, K), labels (N,) or (N, K), as pairs by falling logit, ties by class; raises as `f16`."""
        gap, row_max = gaps(raw, MAX_GAP)
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
        return {
            "logits": half_offsets(gap.gather(1, ids)),
            "ids": ids,
            "lse": lse_of(gap),
            "tail": tail_of(gap, ids),
            "row_max": row_max,
        }

    def decode(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Offsets in float32: those of the kept classes, and the tail's for every other class."""
        tail = stored["tail"].unsqueeze(-1).expand(-1, self.classes)
        offsets = tail.scatter(1, stored["ids"].long(), stored["logits"].float())
        return {"logits": offsets, "row_max": stored["row_max"]}

    def largest_error(self, stored: Mapping[str, Tensor]) -> Tensor:
        """float16's rounding error for the kept classes, infinite for the others."""
        return pairs_error(stored, self.classes)

"""`summary.json` of a finished store, from its chunks: the teacher's error, or the range of each tensor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.samples.labels import is_wrong
from prepkd.store.encodings import LogitEncoding, Tensors, as_tensors, blocks, decode_in_blocks

# (view, samples) -> labels int64 (n,), or shares of the classes (n, K)
Labels = Callable[[int, slice], Tensor]


class Summary(Protocol):
    """Figures of each chunk, and the content of `summary.json` that follows from them."""

    def of_chunk(self, stored: Mapping[str, NDArray[Any]], view: int, part: slice) -> NDArray[Any]:
        """The figure of one chunk as stored, of the samples `part` under a view."""

    def of_store(self, figures: NDArray[Any], samples: int) -> dict[str, Any]:
        """The content of `summary.json`, from the figures (views, chunks, ...) of a store of `samples` samples."""


@dataclass(frozen=True)
class TeacherError:
    """The share of samples that the teacher gets wrong: per view, and the mean."""

    encoding: LogitEncoding
    labels: Labels

    def of_chunk(self, stored: Mapping[str, NDArray[Any]], view: int, part: slice) -> NDArray[Any]:
        """Count the rows that the teacher gets wrong, which KA corrects."""
        labels, tensors, wrong = self.labels(view, part).cpu(), as_tensors(stored), 0
        for block in blocks(self.encoding, len(labels)):
            offsets = self.encoding.decode({name: array[block] for name, array in tensors.items()})["logits"]
            wrong += int(is_wrong(offsets, labels[block]).sum())
        return np.asarray(wrong)

    def of_store(self, figures: NDArray[Any], samples: int) -> dict[str, Any]:
        """`teacher_error` and `teacher_error_per_view`."""
        errors = [int(count) / samples for count in figures.sum(axis=1)]
        return {"teacher_error": float(np.mean(errors)), "teacher_error_per_view": errors}


@dataclass(frozen=True)
class Ranges:
    """The smallest and the largest value of each tensor under each view."""

    encoding: Tensors

    def of_chunk(self, stored: Mapping[str, NDArray[Any]], view: int, part: slice) -> NDArray[Any]:
        """Smallest and largest value of each tensor, float64 (tensors, 2)."""
        values = decode_in_blocks(self.encoding, as_tensors(stored)).values()
        return np.array([(one.min().item(), one.max().item()) for one in values], np.float64)

    def of_store(self, figures: NDArray[Any], samples: int) -> dict[str, Any]:
        """`ranges`: by tensor, `min` and `max` of each view."""
        least, most = figures[..., 0].min(axis=1).T.tolist(), figures[..., 1].max(axis=1).T.tolist()
        names = [one.name for one in self.encoding.tensors]
        return {"ranges": {name: {"min": low, "max": high} for name, low, high in zip(names, least, most, strict=True)}}

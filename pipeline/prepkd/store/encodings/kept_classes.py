"""Rows of (class, offset) pairs: the parts that `topk` and `sampled` share."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.store.encodings.f16 import MIN_GAP, half_error


def ids_dtype(classes: int) -> np.dtype[Any]:
    """The smallest type of class ids whose largest value is free to mean "missing"."""
    return np.dtype(next(dtype for dtype in ("uint8", "uint16", "uint32") if classes <= np.iinfo(dtype).max))


def lse_of(gap: Tensor) -> Tensor:
    """The log-sum-exp of all offsets, float32 (N,)."""
    return (-gap).double().logsumexp(dim=-1).float()


def tail_of(gap: Tensor, ids: Tensor) -> Tensor:
    """The log of the mean exp of the offsets that are not among `ids` (N, k), float32 (N,)."""
    # In float64: the tail's mass must not be a difference of large numbers.
    left = -gap.double().scatter(1, ids, torch.inf)
    tail = left.logsumexp(dim=-1) - math.log(gap.shape[-1] - ids.shape[-1])
    # Below zero even if more classes tie at the maximum than are kept: argmax must name a kept one.
    return tail.float().clamp(max=-MIN_GAP)


def pairs_error(stored: Mapping[str, Tensor], classes: int) -> Tensor:
    """float16's rounding error for the kept classes, infinite for the others, float32 (N, K)."""
    bound = half_error(stored["logits"])
    left_out = torch.full((len(bound), classes), torch.inf)
    return left_out.to(bound.device).scatter(1, stored["ids"].long(), bound)


def ids_problem(classes: int) -> Callable[[NDArray[Any]], str]:
    """A check of class ids (N, k): '' if all are below `classes` and no row names one twice."""

    def problem(ids: NDArray[Any]) -> str:
        if bad := np.count_nonzero(ids >= classes):
            return f"{bad} of its class ids are not below {classes}"
        ordered = np.sort(ids, axis=-1)
        bad = np.count_nonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=-1))
        return f"{bad} of its rows name a class twice" if bad else ""

    return problem


def lse_problem(classes: int) -> Callable[[NDArray[Any]], str]:
    """A check of log-sum-exps (N,) of offsets: '' if all are from 0 to ln K."""

    def problem(lse: NDArray[Any]) -> str:
        most = math.log(classes) * (1 + 1e-6)  # of equal logits; rounded to float32
        bad = np.count_nonzero(~((lse >= 0) & (lse <= most)))
        return f"{bad} of its values are no log-sum-exp of {classes} offsets" if bad else ""

    return problem


def tail_problem(tail: NDArray[Any]) -> str:
    """Say what is wrong with tails (N,); '' if all are below 0 and finite."""
    bad = np.count_nonzero(~((tail < 0) & (tail > -np.inf)))
    return f"{bad} of its values are not below 0 and finite" if bad else ""

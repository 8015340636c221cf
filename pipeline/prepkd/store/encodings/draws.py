"""Random words for encodings that draw classes: a pure function of (seed, view, sample)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.runtime.streams import Purpose, raw_words
from prepkd.store.encodings.base import DRAW_BITS, Encoding
from prepkd.views import ViewPlan


def words_of(
    encoding: Encoding,
    plan: ViewPlan,
    view: int | NDArray[np.integer[Any]],
    samples: slice | NDArray[np.integer[Any]] = slice(None),
) -> Tensor | None:
    """Return the random words of some samples' rows, int64 (n,) below 2^40; None for an encoding that draws nothing.

    `view` is one view for all samples, or one per sample. The words are keyed by the plan's seed. Strong views have streams of
    their own, whether they are numbered after the weak ones or from 0.
    """
    if not getattr(encoding, "draws", False):
        return None
    chosen = np.arange(plan.samples)[samples] if isinstance(samples, slice) else np.asarray(samples, dtype=np.int64)
    views = np.broadcast_to(np.asarray(view, dtype=np.int64), chosen.shape)
    words = np.empty(chosen.shape, np.int64)
    for one in np.unique(views):
        here = views == one
        low, high = int(chosen[here].min()), int(chosen[here].max()) + 1
        found = raw_words(plan.seed, _stream(plan, int(one)), low, high - low)
        words[here] = (found >> np.uint64(64 - DRAW_BITS)).astype(np.int64)[chosen[here] - low]
    return torch.from_numpy(words)


def _stream(plan: ViewPlan, view: int) -> int:
    strong, own = divmod(view, plan.weak.views)
    if plan.strong is None:
        strong = int(plan.purpose == Purpose.STRONG_VIEWS)
    return (Purpose.DRAWN_CLASSES_OF_STRONG if strong else Purpose.DRAWN_CLASSES).stream(own)

"""Draw random (view, sample) pairs of a store, and read their stored rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prepkd.errors import InputError
from prepkd.runtime.streams import Purpose, random_order
from prepkd.store import AnswerStore
from prepkd.store.encodings import as_tensors

# A view is read whole, so pairs are drawn from as many views as fit in READ bytes, and from at least FEWEST_VIEWS.
READ, FEWEST_VIEWS = 2**28, 8


def draw_pairs(store: AnswerStore, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw up to `count` distinct pairs of the present views: views and samples, int64 (n,). Raises InputError."""
    if not store.present:
        raise InputError(f"{store.url}: holds no view; run `prepkd fetch-views`")
    most = max(FEWEST_VIEWS, READ * store.views // store.nbytes)
    views = np.array(store.present)[random_order(seed, Purpose.VERIFIED_ROWS.stream(0), len(store.present))[:most]]
    picked = random_order(seed, Purpose.VERIFIED_ROWS.stream(1), len(views) * store.samples)[:count]
    return views[picked // store.samples], picked % store.samples


def stored_rows(store: AnswerStore, views: NDArray[np.int64], chosen: NDArray[np.int64]) -> dict[str, Tensor]:
    """The encoded rows (N, *width) of (view, sample) pairs by array name; each view is read once."""
    found: dict[str, NDArray[Any]] = {}
    for view in np.unique(views):
        here = views == view
        for name, array in store.stored(int(view)).items():
            found.setdefault(name, np.empty((len(views), *array.shape[1:]), array.dtype))[here] = array[chosen[here]]
    return as_tensors(found)

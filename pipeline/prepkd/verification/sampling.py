"""Draw random (view, sample) pairs of a store."""

import numpy as np
from numpy.typing import NDArray

from prepkd.errors import InputError
from prepkd.runtime.streams import Purpose, random_order
from prepkd.store import AnswerStore

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

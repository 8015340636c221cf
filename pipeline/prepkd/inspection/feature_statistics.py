"""Statistics of a store of features: of each named tensor, over some views."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prepkd.errors import InputError
from prepkd.store import FeatureStore


@dataclass(frozen=True)
class TensorStatistics:
    """A named tensor: its shape per sample, its type on disk, and statistics of its values.

    `mean`, `std` and `zeros`, the share of zeros, are over the views that were read; `min` and `max` are over all views.
    """

    name: str
    shape: list[int]
    dtype: str
    mean: float
    std: float
    zeros: float
    min: float
    max: float


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of a store's tensors; mean, deviation and zeros are over `views_read`."""

    views_read: list[int]
    tensors: list[TensorStatistics]

    def as_json(self) -> dict[str, Any]:
        """The sections that `prepkd inspect --json` prints."""
        return {"views_read": self.views_read, "tensors": [asdict(one) for one in self.tensors]}


def feature_statistics(store: FeatureStore, views: Sequence[int]) -> FeatureStatistics:
    """Compute a store's statistics from some views, at least one, with one view in memory at a time.

    Raises InputError for a damaged chunk, and for values outside the range that the store's summary states.
    """
    sums = {one.name: np.zeros(3) for one in store.encoding.tensors}
    for view in views:
        for name, values in store.features(view).items():
            _check_range(store, view, name, float(values.min()), float(values.max()))
            exact = values.astype(np.float64)
            sums[name] += exact.mean(), np.square(exact).mean(), (exact == 0).mean()
    found = []
    for one in store.encoding.tensors:
        mean, square, zeros = (sums[one.name] / len(views)).tolist()
        ranges = store.summary["ranges"][one.name]
        std = max(square - mean**2, 0.0) ** 0.5
        least, most = min(ranges["min"]), max(ranges["max"])
        found.append(TensorStatistics(one.name, list(one.shape), one.dtype, mean, std, zeros, least, most))
    return FeatureStatistics(list(views), found)


def _check_range(store: FeatureStore, view: int, name: str, least: float, most: float) -> None:
    stated = store.summary["ranges"][name]
    if (least, most) != (stated["min"][view], stated["max"][view]):
        raise InputError(
            f"{store.url}: {name} of view {view} is from {least:g} to {most:g}, by summary.json from "
            f"{stated['min'][view]:g} to {stated['max'][view]:g}; fetch the store again, or run cache-features"
        )

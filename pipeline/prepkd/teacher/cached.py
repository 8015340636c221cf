"""A teacher's answers from its stores."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prepkd.errors import InputError
from prepkd.store import AnswerStore, FeatureStore, LogitStore
from prepkd.store.encodings import as_tensors, decode_in_blocks
from prepkd.teacher.supply import Supply
from prepkd.views.order import Views


@dataclass(frozen=True)
class CachedFeatures:
    """The tensors that feature terms need, from one store per entry of the supply, in the stores' batches and arithmetic."""

    supply: Supply
    stores: Mapping[str, FeatureStore]
    batch_size: int
    precision: str


class CachedTeacher:
    """A teacher's answers from stores: one view's slab for all samples, or resident stores if each sample has its own view.

    For a store with two kinds of views, it answers the weak views, or with `strong` the strong ones, both numbered from 0.
    Raises InputError if the stores must be `resident` and are larger than `resident_gib`.
    """

    def __init__(
        self,
        store: LogitStore,
        device: torch.device,
        *,
        resident: bool,
        resident_gib: float,
        features: CachedFeatures | None = None,
        strong: bool = False,
    ) -> None:
        self.features, self.device = features, device
        # The next epoch's slab is read while this one's is used, unless the thread would switch the whole process to TF32.
        self.prefetch_depth = 0 if features and features.precision == "tf32" else 1
        stores: list[AnswerStore] = [store, *(features.stores.values() if features else ())]
        kinds = [views_of(one, strong=strong) for one in stores]
        size = sum(one.nbytes // one.views * len(views) for one, views in zip(stores, kinds, strict=True))
        if resident and size > resident_gib * 2**30:
            raise InputError(
                f"distill.view_order is random, which needs the whole store in memory: "
                f"{', '.join(one.url for one in stores)} takes {size / 2**30:.2f} GiB, distill.resident_gib is "
                f"{resident_gib:g}; raise it, or use cycle"
            )
        self.rows = [
            StoredViews(one, device, views, resident=resident) for one, views in zip(stores, kinds, strict=True)
        ]
        self.names = (*store.encoding.answers, *(features.supply.asked if features else ()))

    def __call__(self, views: Views) -> Mapping[str, Tensor]:
        """The stored answers for every sample, in the order of samples."""
        logits, *others = (rows(views) for rows in self.rows)
        if self.features is None:
            return logits
        stored = dict(zip(self.features.stores, others, strict=True))
        settings = {"batch_size": self.features.batch_size, "precision": self.features.precision}
        return {**logits, **self.features.supply.in_batches(stored, device=self.device, **settings)}  # type: ignore[arg-type]


def views_of(store: AnswerStore, *, strong: bool) -> range:
    """The store's views of one kind."""
    count = store.plan.weak.views
    return range(count, store.views) if strong else range(count)


class StoredViews:
    """A store's decoded rows of some views, numbered from 0, on a device; `resident` keeps all encoded rows there."""

    def __init__(self, store: AnswerStore, device: torch.device, views: range, *, resident: bool) -> None:
        self.store, self.device, self.views = store, device, views
        self.resident: dict[str, Tensor] | None = {} if resident else None
        if self.resident is not None:
            for place, view in enumerate(views):
                for name, array in as_tensors(store.stored(view)).items():
                    if place == 0:
                        shape = (len(views), *array.shape)
                        self.resident[name] = torch.empty(shape, dtype=array.dtype, device=device)
                    self.resident[name][place] = array

    def __call__(self, views: Views) -> dict[str, Tensor]:
        """The named tensors of every sample, in the order of samples."""
        if isinstance(views, int):
            stored = as_tensors(self.store.stored(self.views[views]))
            return decode_in_blocks(
                self.store.encoding, {name: array.to(self.device) for name, array in stored.items()}
            )
        assert self.resident is not None
        rows = torch.from_numpy(views).to(self.device), torch.arange(len(views), device=self.device)
        return decode_in_blocks(self.store.encoding, {name: array[rows] for name, array in self.resident.items()})

"""A teacher's answers from its logit store."""

from collections.abc import Mapping

import torch
from torch import Tensor

from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.encodings import as_tensors
from prepkd.views.order import Views


class CachedTeacher:
    """Answers from a store: one view's slab for all samples, or a resident store where each sample has a view of its own.

    Raises InputError if views differ between samples and the store is larger than `resident_gib`.
    """

    names = ("logits", "row_max")
    prefetch_depth = 1  # the next epoch's slab is read while this one's is used

    def __init__(self, store: LogitStore, device: torch.device, *, resident: bool, resident_gib: float) -> None:
        self.store, self.device = store, device
        self.resident: dict[str, Tensor] | None = None
        if resident:
            if store.nbytes > resident_gib * 2**30:
                raise InputError(
                    f"distill.view_order is random, which needs the whole store in memory: {store.url} takes "
                    f"{store.nbytes / 2**30:.2f} GiB, distill.resident_gib is {resident_gib:g}; raise it, or use cycle"
                )
            self.resident = {}
            for view in range(store.views):
                for name, array in as_tensors(store.stored(view)).items():
                    if view == 0:
                        shape = (store.views, *array.shape)
                        self.resident[name] = torch.empty(shape, dtype=array.dtype, device=device)
                    self.resident[name][view] = array

    def __call__(self, views: Views) -> Mapping[str, Tensor]:
        """The stored answers for every sample, in the order of samples."""
        if isinstance(views, int):
            stored = as_tensors(self.store.stored(views))
            return self.store.encoding.decode({name: array.to(self.device) for name, array in stored.items()})
        assert self.resident is not None
        rows = torch.from_numpy(views).to(self.device), torch.arange(len(views), device=self.device)
        return self.store.encoding.decode({name: array[rows] for name, array in self.resident.items()})

"""The teacher's side of distillation: one interface, answered from a store or by the live teacher."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.encodings import Decoded, Encoding, as_tensors
from prepkd.teacher.combine import combine
from prepkd.teacher.forward_pass import raw_logits, ready
from prepkd.training.batches import Answering, Views
from prepkd.training.student_settings import Distill
from prepkd.views import ViewPlan


class CachedTeacher:
    """Answers from a store: one slab for a view that all samples share, or a resident store for views of their own.

    Raises InputError where views differ between samples and the store is larger than `resident_gib`.
    """

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

    def __call__(self, views: Views) -> Decoded:
        """The stored answers for every sample, in the order of samples."""
        if isinstance(views, int):
            stored = as_tensors(self.store.stored(views))
            return self.store.encoding.decode({name: array.to(self.device) for name, array in stored.items()})
        assert self.resident is not None
        rows = torch.from_numpy(views).to(self.device), torch.arange(len(views), device=self.device)
        return self.store.encoding.decode({name: array[rows] for name, array in self.resident.items()})


class OnlineTeacher:
    """Answers by running the teacher, through the store's encoding and in the store's batches: equal bits, no store."""

    prefetch_depth = 0  # the device is the student's, until it asks

    def __init__(
        self,
        model: nn.Module,
        plan: ViewPlan,
        samples: Samples,
        encoding: Encoding,
        *,
        batch_size: int,
        precision: str,
    ) -> None:
        self.model, self.plan, self.samples, self.encoding = ready(model), plan, samples, encoding
        self.settings: dict[str, Any] = {"batch_size": batch_size, "precision": precision}

    def __call__(self, views: Views) -> Decoded:
        """The teacher's answers for every sample, in the order of samples."""
        device = self.samples.device
        rows = torch.from_numpy(self.plan.parameters(views)).to(device)
        everyone = torch.arange(len(self.samples), device=device)
        raw = raw_logits(self.model, self.plan, self.samples, everyone, rows, **self.settings)
        labels = self.samples.targets(self.plan, everyone, rows, self.encoding.classes)
        return self.encoding.decode(self.encoding.encode(raw, labels))


class Ensemble:
    """Several teachers as one: the mean of their probabilities at `tau`, or of their logits; see `combine`."""

    def __init__(self, members: Sequence[Answering], settings: Distill) -> None:
        self.members, self.settings = members, settings
        self.prefetch_depth = min(member.prefetch_depth for member in members)

    def __call__(self, views: Views) -> Decoded:
        """The combined answers for every sample, in the order of samples."""
        answers = [member(views) for member in self.members]
        return combine(
            answers, self.settings.ensemble.combine, self.settings.teacher_weights, tau=self.settings.teacher_tau
        )

"""The teacher's side of distillation: one interface, answered from a store or by the live teacher."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.teacher_pass import answer
from prepkd.train import Encoded, Samples, Views
from prepkd.views import ViewPlan

Teacher = Callable[[Views], Encoded]


class CachedTeacher:
    """Answers from a store: one slab for a view that all samples share, or a resident store for views of their own.

    Raises InputError where views differ between samples and the store is larger than `resident_gib`.
    """

    def __init__(self, store: LogitStore, device: torch.device, *, resident: bool, resident_gib: float) -> None:
        self.store, self.device = store, device
        self.resident: Encoded | None = None
        if resident:
            if store.nbytes > resident_gib * 2**30:
                raise InputError(
                    f"distill.view_order is random, which needs the whole store in memory: {store.path} takes "
                    f"{store.nbytes / 2**30:.2f} GiB, distill.resident_gib is {resident_gib:g}; raise it, or use cycle"
                )
            offsets = torch.empty(store.views, store.samples, store.classes, dtype=torch.float16, device=device)
            row_max = torch.empty(store.views, store.samples, device=device)
            for view in range(store.views):
                offsets[view], row_max[view] = map(torch.from_numpy, store.slab(view))
            self.resident = offsets, row_max

    def __call__(self, views: Views) -> Encoded:
        """The stored answers for every sample, in the order of samples."""
        if isinstance(views, int):
            offsets, row_max = self.store.slab(views)
            return torch.from_numpy(offsets).to(self.device), torch.from_numpy(row_max).to(self.device)
        assert self.resident is not None
        rows = torch.from_numpy(views).to(self.device), torch.arange(len(views), device=self.device)
        return self.resident[0][rows], self.resident[1][rows]


class OnlineTeacher:
    """Answers by running the teacher, through the store's encoding and in the store's batches: equal bits, no store."""

    def __init__(self, model: nn.Module, plan: ViewPlan, samples: Samples, *, batch_size: int, precision: str) -> None:
        self.model, self.plan, self.samples = ready(model), plan, samples
        self.settings: dict[str, Any] = {"batch_size": batch_size, "precision": precision}

    def __call__(self, views: Views) -> Encoded:
        """The teacher's answers for every sample, in the order of samples."""
        rows = torch.from_numpy(self.plan.parameters(views)).to(self.samples.images.device)
        return answer(self.model, self.plan, self.samples.images, rows, **self.settings)


def ready(model: nn.Module) -> nn.Module:
    """A teacher in evaluation mode and in the memory format in which it answers."""
    return model.eval().to(memory_format=torch.channels_last)


def store_answer(
    model: nn.Module, plan: ViewPlan, images: Tensor, *, batch_size: int, precision: str
) -> Callable[[int, slice], tuple[NDArray[np.float16], NDArray[np.float32]]]:
    """What a store's writer asks: the encoded logits of some samples under one view, as NumPy arrays."""
    ready(model)

    def ask(view: int, part: slice) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        rows = torch.from_numpy(plan.parameters(view, part)).to(images.device)
        offsets, row_max = answer(model, plan, images[part], rows, batch_size=batch_size, precision=precision)
        return offsets.cpu().numpy(), row_max.cpu().numpy()

    return ask


def check_store(store: LogitStore, *, plan: ViewPlan, dataset: str, teacher: str | None, path: Path) -> None:
    """Refuse a store that was not made from these samples, this plan or this teacher; raises InputError.

    `dataset` and `teacher` are fingerprints (of the training split, of the weights); None where no teacher is at hand.
    """
    wanted: list[tuple[str, Any, Any]] = [
        ("dataset.split_fingerprint", store.attributes["dataset"]["split_fingerprint"], dataset),
        *((f"views.{key}", store.attributes["views"][key], value) for key, value in plan.describe().items()),
    ]
    if teacher is not None:
        wanted.append(("teacher.weights_fingerprint", store.attributes["teacher"]["weights_fingerprint"], teacher))
    for field, found, expected in wanted:
        if found != expected:
            raise InputError(
                f"{path}: {field} is {_short(found)}, expected {_short(expected)}; "
                f"run `prepkd cache-logits {store.attributes['teacher']['name']}` again"
            )


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text

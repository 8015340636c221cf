"""Query a live teacher for drawn (view, sample) pairs of a store."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.samples.samples import Samples
from prepkd.errors import refuse_differences
from prepkd.models import Normalised
from prepkd.models.features import WithFeatures
from prepkd.provenance.features import entry_of
from prepkd.store import AnswerStore, FeatureStore, LogitStore
from prepkd.store.encodings import words_of
from prepkd.teacher.forward_pass import SampleViews, forward, raw_logits, to_eval
from prepkd.views import ViewPlan

DEFAULT_BATCH = 256
MAX_BATCH_SIZE = 2**13  # the limit if it exceeds the number of samples: batches are padded to full size


@dataclass(frozen=True)
class Query:
    """One row per (view, sample) pair: the pair, the image that the teacher sees, and the view's parameters.

    `views`, `sample_indices` and `image_indices` are int64 (N,), `parameters` integers (N, p). In the correct query both
    indices are equal; a negative control changes `image_indices`, `parameters` or `model`.
    """

    model: Normalised
    samples: Samples
    views: NDArray[np.int64]
    sample_indices: NDArray[np.int64]
    image_indices: NDArray[np.int64]
    parameters: NDArray[Any]

    @classmethod
    def of(
        cls,
        model: Normalised,
        plan: ViewPlan,
        samples: Samples,
        views: NDArray[np.int64],
        sample_indices: NDArray[np.int64],
    ) -> "Query":
        """Build the correct query: every sample shows its own image, under the plan's parameters."""
        return cls(model, samples, views, sample_indices, sample_indices, plan.parameters(views, sample_indices))

    def inputs(self, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Image indices int64 (n,) and view parameters (n, p) of some rows, on the samples' index device."""
        device = self.samples.index_device
        return torch.from_numpy(self.image_indices[part]).to(device), torch.from_numpy(self.parameters[part]).to(device)

    def pictures(self, store: AnswerStore) -> SampleViews:
        """The pictures that the teacher sees, under the store's plan."""
        return SampleViews(self.samples, store.plan, *self.inputs())

    def labels(self, store: LogitStore) -> Tensor:
        """Labels int64 (N,), or class shares (N, K) for mixed views, on the CPU."""
        return self.samples.targets(store.plan, *self.inputs(), store.classes).cpu()

    def words(self, store: LogitStore) -> Tensor | None:
        """The random words of the rows, int64 (N,); None for an encoding that draws nothing."""
        return words_of(store.encoding, store.plan, self.views, self.sample_indices)


def batch_size(store: AnswerStore) -> int:
    """The teacher's batch size when the store was written, 256 if it was not recorded; bounded, since a store is untrusted."""
    return min(store.attributes.precision.batch_size or DEFAULT_BATCH, max(store.samples, MAX_BATCH_SIZE))


def live_logits(store: LogitStore, query: Query) -> Tensor:
    """The teacher's raw logits (N, K) on the CPU, in the store's batch shape and precision (float32 if unknown)."""
    pictures = query.pictures(store)
    return raw_logits(
        to_eval(query.model), pictures, batch_size=batch_size(store), precision=arithmetic_of(store)
    ).cpu()


def live_features(store: FeatureStore, query: Query) -> dict[str, Tensor]:
    """The store's tensors (N, ...) of the live teacher's features on the CPU, by name, in the store's batches and precision.

    Raises InputError for a feature that the teacher does not have, and for tensors of other shapes than the store's.
    """
    entry = entry_of(store)
    found = forward(
        WithFeatures(to_eval(query.model), entry.features),
        query.pictures(store),
        batch_size=batch_size(store),
        precision=arithmetic_of(store),
        teacher_tensors=entry.teacher_tensors,
    )
    asked = {name: values.cpu() for name, values in found.items() if name != "logits" or name in store.tensors}
    shapes = {name: tuple(values.shape[1:]) for name, values in asked.items()}
    refuse_differences(
        {"encoding.tensors": (store.tensors, shapes)},
        store.url,
        f"run `prepkd cache-features {store.attributes.teacher.name}`",
    )
    return asked


def arithmetic_of(store: AnswerStore) -> str:
    """The arithmetic in which the live teacher runs: the store's, or `ieee` if it is unknown."""
    known = store.attributes.precision.arithmetic
    return "ieee" if known == "unknown" else known

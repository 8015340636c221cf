"""Compare drawn rows of a store with the live teacher's answers to a query: logits, or tensors of features."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from prepkd.data.samples.labels import has_share
from prepkd.store import AnswerStore, FeatureStore, LogitStore
from prepkd.verification.discrepancy import Discrepancy, Reference, live_reference, measure_discrepancy
from prepkd.verification.feature_discrepancy import (
    FeatureDiscrepancy,
    FeatureReference,
    feature_reference,
    measure_features,
)
from prepkd.verification.query import Query, live_features, live_logits

AnyDiscrepancy = Discrepancy | FeatureDiscrepancy


class Comparison(Protocol):
    """A comparison of stored rows with a live teacher."""

    def compare_teacher(self) -> AnyDiscrepancy:
        """Compare with the live answers to the correct query."""

    def compare_control(self, other: Query, rows: Tensor) -> AnyDiscrepancy:
        """Compare some rows, bool (N,), with the live answers to a wrong query, under the correct query's limits."""

    def labels_left_out(self) -> int:
        """The number of stored rows that lack the logit of a label."""


def make_comparison(store: AnswerStore, stored: dict[str, Tensor], query: Query, arithmetic: str) -> Comparison:
    """Build the comparison for the kind of a store, which tolerates the rounding of `arithmetic`. Raises InputError."""
    if isinstance(store, FeatureStore):
        return FeatureComparison(store, store.encoding.decode(stored), query, arithmetic)
    assert isinstance(store, LogitStore)
    return LogitComparison(store, stored, query, arithmetic)


@dataclass(frozen=True)
class LogitComparison:
    """A comparison of encoded logits, by array, with live logits."""

    store: LogitStore
    stored: dict[str, Tensor]
    query: Query
    arithmetic: str

    @cached_property
    def labels(self) -> Tensor:
        """Labels int64 (N,), or class shares (N, K)."""
        return self.query.labels(self.store)

    @cached_property
    def raw(self) -> Tensor:
        """The live teacher's raw logits (N, K)."""
        return live_logits(self.store, self.query)

    @cached_property
    def reference(self) -> Reference:
        """The limits that the live logits set."""
        return live_reference(self.store.encoding, self.raw, self.labels, self.query.words(self.store))

    def compare_teacher(self) -> Discrepancy:
        """Compare with the live logits."""
        return measure_discrepancy(self.store.encoding, self.stored, self.raw, self.reference, self.arithmetic)

    def compare_control(self, other: Query, rows: Tensor) -> Discrepancy:
        """Compare some rows with the live logits of a wrong query."""
        few, raw = {key: array[rows] for key, array in self.stored.items()}, live_logits(self.store, other)[rows]
        return measure_discrepancy(self.store.encoding, few, raw, self.reference.rows(rows), self.arithmetic)

    def labels_left_out(self) -> int:
        """The number of stored rows that lack the logit of a label."""
        left_out = self.store.encoding.largest_error(self.stored) == torch.inf
        return int((left_out & has_share(self.labels, self.store.classes)).any(dim=-1).sum())


@dataclass(frozen=True)
class FeatureComparison:
    """A comparison of an entry's stored tensors, by name, with those of live features."""

    store: FeatureStore
    stored: Mapping[str, Tensor]
    query: Query
    arithmetic: str

    @cached_property
    def live(self) -> dict[str, Tensor]:
        """The live teacher's tensors (N, ...)."""
        return live_features(self.store, self.query)

    @cached_property
    def reference(self) -> FeatureReference:
        """The limits that the live tensors set."""
        return feature_reference(self.store.encoding, self.live)

    def compare_teacher(self) -> FeatureDiscrepancy:
        """Compare with the live tensors."""
        return measure_features(self.stored, self.live, self.reference, self.arithmetic)

    def compare_control(self, other: Query, rows: Tensor) -> FeatureDiscrepancy:
        """Compare some rows with the live tensors of a wrong query."""
        few = {name: values[rows] for name, values in self.stored.items()}
        live = {name: values[rows] for name, values in live_features(self.store, other).items()}
        return measure_features(few, live, self.reference.rows(rows), self.arithmetic)

    def labels_left_out(self) -> int:
        """Return 0, since features have no labels."""
        return 0

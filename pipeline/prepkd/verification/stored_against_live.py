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
from prepkd.verification.live_features import live_features
from prepkd.verification.query import Query, live_logits

AnyDiscrepancy = Discrepancy | FeatureDiscrepancy


class StoredAgainstLive(Protocol):
    """Stored rows against a live teacher."""

    def teacher(self) -> AnyDiscrepancy:
        """Against the live answers to the correct query."""

    def control(self, other: Query, rows: Tensor) -> AnyDiscrepancy:
        """Some rows, bool (N,), against the live answers to a wrong query; the limits stay those of the correct one."""

    def labels_left_out(self) -> int:
        """The number of stored rows that lack the logit of a label."""


def stored_against_live(
    store: AnswerStore, stored: dict[str, Tensor], query: Query, arithmetic: str
) -> StoredAgainstLive:
    """The comparison for the kind of a store; `arithmetic` is the one whose rounding is tolerated. Raises InputError."""
    if isinstance(store, FeatureStore):
        return FeatureComparison(store, store.encoding.decode(stored), query, arithmetic)
    assert isinstance(store, LogitStore)
    return LogitComparison(store, stored, query, arithmetic)


@dataclass(frozen=True)
class LogitComparison:
    """Encoded rows of logits, by array, against live logits."""

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
        """The limits that they set."""
        return live_reference(self.store.encoding, self.raw, self.labels, self.query.words(self.store))

    def teacher(self) -> Discrepancy:
        """Against the live logits."""
        return measure_discrepancy(self.store.encoding, self.stored, self.raw, self.reference, self.arithmetic)

    def control(self, other: Query, rows: Tensor) -> Discrepancy:
        """Some rows against the live logits of a wrong query."""
        few, raw = {key: array[rows] for key, array in self.stored.items()}, live_logits(self.store, other)[rows]
        return measure_discrepancy(self.store.encoding, few, raw, self.reference.rows(rows), self.arithmetic)

    def labels_left_out(self) -> int:
        """The number of stored rows that lack the logit of a label."""
        left_out = self.store.encoding.largest_error(self.stored) == torch.inf
        return int((left_out & has_share(self.labels, self.store.classes)).any(dim=-1).sum())


@dataclass(frozen=True)
class FeatureComparison:
    """Stored tensors of an entry of `cache.features`, by name, against those of live features."""

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
        """The limits that they set."""
        return feature_reference(self.store.encoding, self.live)

    def teacher(self) -> FeatureDiscrepancy:
        """Against the live tensors."""
        return measure_features(self.stored, self.live, self.reference, self.arithmetic)

    def control(self, other: Query, rows: Tensor) -> FeatureDiscrepancy:
        """Some rows against the live tensors of a wrong query."""
        few = {name: values[rows] for name, values in self.stored.items()}
        live = {name: values[rows] for name, values in live_features(self.store, other).items()}
        return measure_features(few, live, self.reference.rows(rows), self.arithmetic)

    def labels_left_out(self) -> int:
        """Features have no labels."""
        return 0

"""Compare the first batch of a view with the live teacher, before training reads the store."""

import numpy as np

from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.models import Normalised
from prepkd.store import FeatureStore, LogitStore
from prepkd.verification.discrepancy import live_reference, measure_discrepancy
from prepkd.verification.feature_discrepancy import feature_reference, measure_features
from prepkd.verification.live_features import live_features
from prepkd.verification.query import Query, batch_size, live_logits


def check_first_batch(store: LogitStore, teacher: Normalised, samples: Samples, view: int) -> None:
    """Compare one batch of a view with the live teacher; raises InputError if the store differs."""
    count = min(batch_size(store), store.samples)
    chosen = np.arange(count)
    views = np.full(count, view)
    stored = store.rows(views, chosen)
    query = Query.of(teacher, store.plan, samples, views, chosen)
    raw = live_logits(store, query)
    reference = live_reference(store.encoding, raw, query.labels(store), query.words(store))
    found = measure_discrepancy(store.encoding, stored, raw, reference, store.attributes.precision.arithmetic)
    if not found.within:
        raise InputError(
            f"{store.url}: view {view}, samples 0 to {count - 1}: the live teacher's logits differ by {found.dz:.3g}, "
            f"{found.excess:.3g} more than {store.attributes.encoding.name} explains, KL(tau=4) {found.kl_4:.1e}, "
            f"common top-1 {found.top1:.1%}; `prepkd verify {store.url}` looks closer"
        )


def check_first_features(store: FeatureStore, teacher: Normalised, samples: Samples, view: int) -> None:
    """Compare one batch of a view with tensors of the live teacher's features; raises InputError if the store differs."""
    chosen = np.arange(min(batch_size(store), store.samples))
    views = np.full(len(chosen), view)
    stored = store.encoding.decode(store.rows(views, chosen))
    live = live_features(store, Query.of(teacher, store.plan, samples, views, chosen))
    reference = feature_reference(store.encoding, live)
    found = measure_features(stored, live, reference, store.attributes.precision.arithmetic)
    if not found.within:
        raise InputError(
            f"{store.url}: view {view}, samples 0 to {len(chosen) - 1}: {found.fault}; `prepkd verify {store.url}` looks "
            "closer"
        )

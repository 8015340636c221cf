"""Ask a live teacher what a store of features holds, and check that the store belongs to teacher, logits and settings."""

from collections.abc import Set

import numpy as np
from torch import Tensor

from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError, refuse_differences
from prepkd.methods.entries import Entry
from prepkd.models import Normalised
from prepkd.models.features import WithFeatures
from prepkd.store import FeatureStore, LogitStore
from prepkd.teacher.feature_caching import encoding_of
from prepkd.teacher.forward_pass import forward, ready
from prepkd.verification.feature_discrepancy import feature_reference, measure_features
from prepkd.verification.query import Query, arithmetic, batch_size
from prepkd.verification.sampling import stored_rows

# The sections in which a teacher's stores of logits and features agree, without the keys in which they may differ.
BELONG_TOGETHER: dict[str, Set[str]] = {
    "teacher": set(),
    "dataset": {"name", "fingerprint"},
    "views": {"strong"},  # features are of weak views
    "pixels": set(),
    "precision": {"device"},
}


def entry_of(store: FeatureStore) -> Entry:
    """The entry that a store of features describes; raises InputError."""
    assert store.attributes.asked is not None  # of every store of features
    return Entry.from_description(store.attributes.asked.model_dump(), store.url)


def live_features(store: FeatureStore, query: Query) -> dict[str, Tensor]:
    """The store's tensors (N, ...) of the live teacher's features on the CPU, by name, in the store's batches and precision.

    Raises InputError for a feature that the teacher does not have, and for tensors of other shapes than the store's.
    """
    entry = entry_of(store)
    found = forward(
        WithFeatures(ready(query.model), entry.features),
        store.plan,
        query.samples,
        *query.inputs(),
        batch_size=batch_size(store),
        precision=arithmetic(store),
        asks=entry.asks,
    )
    asked = {name: values.cpu() for name, values in found.items() if name != "logits" or name in store.tensors}
    shapes = {name: tuple(values.shape[1:]) for name, values in asked.items()}
    refuse_differences(
        {"encoding.tensors": (store.tensors, shapes)},
        store.url,
        f"run `prepkd cache-features {store.attributes.teacher.name}`",
    )
    return asked


def check_features(store: FeatureStore, found: Entry, wanted: Entry | None, logits: LogitStore) -> None:
    """Refuse a store of features of another teacher, data, views or precision than the logits', or of another entry.

    `found` is the store's entry, `wanted` the one that the settings and the student need, None where it reads other features.
    Raises InputError.
    """
    ours, theirs = (one.attributes.model_dump() for one in (store, logits))
    remedy = f"run `prepkd cache-features {logits.attributes.teacher.name}` again"
    for section, left_out in BELONG_TOGETHER.items():
        found_in, wanted_in = ours.get(section) or {}, theirs.get(section) or {}
        if section == "pixels" and "strong" in theirs["views"]:
            continue  # of the last strong view; the store's own pixels are checked with `check_pixels`
        keys = sorted({*found_in, *wanted_in} - left_out)
        refuse_differences(
            {f"{section}.{key}": (found_in.get(key), wanted_in.get(key)) for key in keys}, store.url, remedy
        )
    if wanted is None:
        read = ", ".join(found.teacher)
        raise InputError(f"{store.url}: asked.teacher has {read}, other features than the settings'; {remedy}")
    described, expected = found.describe(), wanted.describe()
    for key in ("settings", "sizes"):
        one, other = described[key] or {}, expected[key] or {}
        refuse_differences(
            {f"asked.{key}.{name}": (one.get(name), other.get(name)) for name in sorted({*one, *other})},
            store.url,
            remedy,
        )
    encoding = encoding_of(wanted)
    refuse_differences({"encoding": (store.encoding.describe(), encoding.describe())}, store.url, remedy)


def check_first_features(store: FeatureStore, teacher: Normalised, samples: Samples, view: int) -> None:
    """Compare one batch of a view with what the live teacher's features give; raises InputError if the store differs."""
    chosen = np.arange(min(batch_size(store), store.samples))
    views = np.full(len(chosen), view)
    stored = store.encoding.decode(stored_rows(store, views, chosen))
    live = live_features(store, Query.of(teacher, store.plan, samples, views, chosen))
    reference = feature_reference(store.encoding, live)
    found = measure_features(stored, live, reference, store.attributes.precision.arithmetic)
    if not found.within:
        raise InputError(
            f"{store.url}: view {view}, samples 0 to {len(chosen) - 1}: {found.fault}; `prepkd verify {store.url}` looks "
            "closer"
        )

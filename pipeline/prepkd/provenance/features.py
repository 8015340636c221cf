"""Checks that a store of features belongs to its store of logits, and fits the settings and the student."""

from collections.abc import Set

from prepkd.errors import InputError, refuse_differences
from prepkd.methods.entries import Entry
from prepkd.store import FeatureStore, LogitStore
from prepkd.teacher.feature_caching import feature_encoding

# Sections that must agree between a teacher's stores of logits and features, each with the keys that may differ.
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


def check_features(store: FeatureStore, found: Entry, wanted: Entry | None, logits: LogitStore, command: str) -> None:
    """Refuse a store of features of another teacher, data, views or precision than the logits', or of another entry.

    `found` is the store's entry; `wanted` the one that the settings and the student need, None if they read other features;
    `command` creates the right store. Raises InputError.
    """
    ours, theirs = (one.attributes.model_dump() for one in (store, logits))
    remedy = f"run `{command}` again"
    for section, left_out in BELONG_TOGETHER.items():
        found_in, wanted_in = ours.get(section) or {}, theirs.get(section) or {}
        if section == "pixels" and "strong" in theirs["views"]:
            continue  # the logits' hash is of the last strong view; `check_pixels` checks the store's own pixels
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
    encoding = feature_encoding(wanted)
    refuse_differences({"encoding": (store.encoding.describe(), encoding.describe())}, store.url, remedy)

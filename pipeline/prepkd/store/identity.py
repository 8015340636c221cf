"""The identities of stores: their manifests' hashes, fingerprints and plans, without their logits."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from prepkd.errors import InputError, refuse_differences
from prepkd.store.attributes import MALFORMED, read_attributes
from prepkd.store.layout import MANIFEST
from prepkd.store.place import get, open_place


def identities(urls: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The identity of each teacher's store, by the teacher's name.

    Raises InputError for a store that is missing or unfinished, and for one whose view plan differs from the first one's.
    """
    stores = {name: identity(url, name) for name, url in urls.items()}
    first, *others = stores
    for name in others:
        found, expected = stores[name]["views"], stores[first]["views"]
        refuse_differences(
            {f"views.{key}": (value, expected[key]) for key, value in found.items()},
            f"{urls[name]} against {urls[first]}",
            f"run `prepkd cache-logits {name}` again",
        )
    return stores


def identity(url: str, name: str) -> dict[str, Any]:
    """The identity of one teacher's store: the manifest's SHA-256, the fingerprints, the view plan; raises InputError."""
    place = open_place(url)
    manifest, group = get(place, MANIFEST), get(place, "zarr.json")
    remedy = f"run `prepkd cache-logits {name}`"
    if manifest is None or group is None:
        raise InputError(f"{url}: no finished store; {remedy}")
    try:
        stored = json.loads(group)["attributes"]["prepkd"]
    except MALFORMED as error:
        raise InputError(f"{url}: not a logit store ({type(error).__name__}: {error}); {remedy}") from None
    attributes = read_attributes(stored, url)
    return {
        "manifest": hashlib.sha256(manifest).hexdigest(),
        "fingerprints": attributes.fingerprints,
        "views": attributes.views.model_dump(),
    }

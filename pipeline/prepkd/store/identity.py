"""Identify stores by their manifests' hashes, fingerprints and view plans, without reading logits."""

from collections.abc import Callable, Mapping
from typing import Any

from prepkd.errors import InputError, refuse_differences
from prepkd.runtime.files import sha256
from prepkd.store.documents import parse_attributes, parse_manifest, read_document
from prepkd.store.layout import MANIFEST
from prepkd.store.place import open_place
from prepkd.store.reader import read_manifest


def identity(url: str, name: str, command: str = "cache-logits") -> dict[str, Any]:
    """The identity of a store of one teacher: the manifest's SHA-256, the fingerprints, the view plan; raises InputError.

    `command` is the one that writes such stores, for messages.
    """
    place = open_place(url)
    manifest, group = read_document(place, MANIFEST), read_document(place, "zarr.json")
    if manifest is None or group is None:
        raise InputError(f"{url}: no finished store; run `prepkd {command} {name}`")
    refuse_differences(
        {"zarr.json: sha256": (sha256(group), parse_manifest(manifest, url).get("zarr.json"))},
        url,
        f"run `prepkd {command} {name}` again",
    )
    attributes = parse_attributes(group, url)
    return {
        "manifest": sha256(manifest),
        "fingerprints": attributes.fingerprints,
        "views": attributes.views.model_dump(),
    }


def identities(
    urls: Mapping[str, str], read: Callable[[str, str], dict[str, Any]] = identity
) -> dict[str, dict[str, Any]]:
    """The identity of each teacher's store, by the teacher's name, from `read`.

    Raises InputError for a store that is missing or unfinished, and for one whose view plan differs from the first one's.
    """
    stores = {name: read(url, name) for name, url in urls.items()}
    first = next(iter(stores), "")
    for name in stores:
        found, expected = stores[name]["views"], stores[first]["views"]
        refuse_differences(
            {f"views.{key}": (found.get(key), expected.get(key)) for key in sorted({*found, *expected})},
            f"{urls[name]} against {urls[first]}",
            f"run `prepkd cache-logits {name}` again",
        )
    return stores


def manifest_sha256(url: str) -> str:
    """The SHA-256 of a finished store's manifest, which states that of every other file; raises InputError."""
    return sha256(read_manifest(open_place(url), url))

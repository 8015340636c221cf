"""Chains of teachers as text."""

from collections.abc import Iterable

from prepkd.provenance.descent import Chain


def format_chains(chains: Iterable[Chain]) -> list[str]:
    """Return one line per chain, the nearest teacher first: `two (convnet4, weights ab12) <- one (...)`."""
    return [" <- ".join(map(_teacher, chain)) for chain in chains]


def _teacher(one: dict[str, str]) -> str:
    known = [one["model"]] if "model" in one else []
    known += [f"weights {one['weights_fingerprint'][:12]}"] if "weights_fingerprint" in one else []
    return f"{one.get('name', 'unnamed')} ({', '.join(known) or 'not there'})"

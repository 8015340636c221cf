"""The chain of teachers above a model, the nearest first."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prepkd.errors import InputError
from prepkd.models.checkpoint import load_card
from prepkd.runtime.files import fingerprint
from prepkd.teacher.loaded import describe_teacher
from prepkd.training.finished import finished_card

MAX_DEPTH = 1000  # teachers above a generation that a card may list
DESCRIBED = ("name", "model", "weights_fingerprint")
Chain = list[dict[str, str]]  # per teacher the fields of `DESCRIBED`, as far as known


def ancestors(card: Mapping[str, Any]) -> Chain:
    """The teachers above a generation according to its card, which is untrusted; empty for other models."""
    above = card.get("distilled_from")
    known = above[:MAX_DEPTH] if isinstance(above, list) else []
    return [{key: str(one[key]) for key in DESCRIBED if key in one} for one in known if isinstance(one, dict)]


def descent(name: str, folder: Path) -> Chain:
    """The teachers above a student of the teacher `name` in `folder`; only the name if that teacher is not trained yet."""
    if not finished_card(folder):
        return [{"name": name}]
    card = load_card(folder)
    return [{"name": name, **{key: card[key] for key in DESCRIBED[1:]}}, *ancestors(card)]


def descents(card: Mapping[str, Any], teachers: Path) -> list[Chain]:
    """The teachers above a model according to its card, one chain per direct teacher; none without a teacher.

    `teachers` contains the teachers' folders. Only the name is known of a teacher that is missing or was retrained since.
    """
    if above := ancestors(card):
        return [above]
    taught = card.get("inputs", {}).get("teacher")
    return [_still(name, made, teachers / name) for name, made in taught.items()] if isinstance(taught, dict) else []


def _still(name: str, made: object, folder: Path) -> Chain:
    try:
        now = fingerprint(describe_teacher(load_card(folder) | {"name": name}))
    except InputError:
        return [{"name": name}]
    same = isinstance(made, dict) and made.get("teacher") == now
    return descent(name, folder) if same else [{"name": name}]


def format_chains(chains: Iterable[Chain]) -> list[str]:
    """Return one line per chain, the nearest teacher first: `two (convnet4, weights ab12) <- one (...)`."""
    return [" <- ".join(map(_teacher, chain)) for chain in chains]


def _teacher(one: dict[str, str]) -> str:
    known = [one["model"]] if "model" in one else []
    known += [f"weights {one['weights_fingerprint'][:12]}"] if "weights_fingerprint" in one else []
    return f"{one.get('name', 'unnamed')} ({', '.join(known) or 'not there'})"

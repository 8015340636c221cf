"""Checks that students were trained by this version, from these weights, by these teachers, on these views."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prepkd.errors import refuse_differences
from prepkd.models.checkpoint import load_card
from prepkd.models.weight_files import weights_file
from prepkd.runtime.files import file_sha256, fingerprint
from prepkd.store import LogitStore
from prepkd.teacher.loaded import describe_teacher
from prepkd.training.checkpoints import TRAINING_VERSION


@dataclass(frozen=True)
class TrainedOn:
    """What students see: fingerprints of the training split, of the view plan, and of the encoding of the teacher's logits."""

    split_fingerprint: str
    plan_fingerprint: str
    encoding: str


def check_version(made_from: Mapping[str, Any], where: object, remedy: str) -> None:
    """Refuse results of another training version, whose equal settings meant other steps, views or weights; raises InputError."""
    found = made_from.get("training_version")
    refuse_differences({"training_version": (found, TRAINING_VERSION)}, where, f"{remedy} again")


def check_started_from(made_from: Mapping[str, Any], weights: Path | None, where: object, remedy: str) -> None:
    """Refuse a student whose file of initial weights has changed since; raises InputError."""
    if weights and weights_file(weights).is_file():
        remedy = f"{weights} has changed; {remedy}"
        refuse_differences(
            {"given_weights": (made_from.get("given_weights"), file_sha256(weights_file(weights)))}, where, remedy
        )


def check_taught_by(
    made_from: Mapping[str, Any] | None, teachers: Mapping[str, Path], where: object, remedy: str
) -> None:
    """Refuse students of a teacher that has been retrained since; `teachers` are folders by name. Raises InputError."""
    for name, folder in teachers.items():
        now = fingerprint(describe_teacher(load_card(folder) | {"name": name}))
        then = (made_from or {}).get(name, {}).get("teacher")
        refuse_differences({f"inputs.teacher.{name}": (then, now)}, where, remedy)


def check_trained_on(made_from: Mapping[str, Any], now: Callable[[], TrainedOn], where: object, remedy: str) -> None:
    """Refuse students of other training samples, views or encodings; raises InputError.

    What their file does not record is not compared: `ce` has no encoding, and files of older versions lack more.
    """
    found = {key: made_from[key] for key in ("split_fingerprint", "plan_fingerprint") if key in made_from}
    taught = {name: by["encoding"] for name, by in (made_from.get("teacher") or {}).items() if "encoding" in by}
    if found or taught:
        ours = now()
        wanted = {f"inputs.{key}": (value, getattr(ours, key)) for key, value in found.items()}
        wanted |= {f"inputs.teacher.{name}.encoding": (value, ours.encoding) for name, value in taught.items()}
        refuse_differences(wanted, where, remedy)


def check_stores(
    made_from: Mapping[str, Any] | None, stores: Mapping[str, LogitStore], where: object, remedy: str
) -> None:
    """Refuse students of other teachers than those of the `stores`, by name; raises InputError."""
    for name, store in stores.items():
        then, now = (made_from or {}).get(name, {}).get("teacher"), store.attributes.fingerprints["teacher"]
        refuse_differences({f"inputs.teacher.{name}": (then, now)}, where, remedy)

"""Checks that students were trained by this version, from these weights, by these teachers, on these views."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prepkd.errors import refuse_differences
from prepkd.models.checkpoint import load_card
from prepkd.models.weight_files import weights_file
from prepkd.runtime.files import file_sha256, fingerprint
from prepkd.store import LogitStore
from prepkd.teacher.caching import logit_encoding
from prepkd.teacher.loaded import describe_teacher
from prepkd.teacher.settings import Cache
from prepkd.training.checkpoints import TRAINING_VERSION

# The settings that change what a file records.
CHANGED_BY = {
    "split_fingerprint": "the training images",
    "plan_fingerprint": "augment, augment_strong, cache.views or cache.seed",
}


@dataclass(frozen=True)
class TrainedOn:
    """What students see: fingerprints of the training split and of the view plan, and how the teacher's logits are kept."""

    split_fingerprint: str
    plan_fingerprint: str
    settings: Cache
    classes: int

    @property
    def encoding(self) -> str:
        """The fingerprint of a store's encoding; raises InputError if it cannot encode this number of classes."""
        return fingerprint(logit_encoding(self.settings, self.classes).describe())

    @property
    def cache(self) -> dict[str, Any]:
        """The settings that the answers of a live teacher depend on."""
        return self.settings.answer_settings()


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

    What their file does not record is not compared: students of `ce` have no encoding, and older files lack more.
    """
    ours = functools.cache(now)
    for key, settings in CHANGED_BY.items():
        if key in made_from:
            both = made_from[key], getattr(ours(), key)
            refuse_differences({f"inputs.{key}": both}, where, f"{settings} changed; {remedy}")
    for name, by in (made_from.get("teacher") or {}).items():
        for key in ("encoding", "cache"):  # of a store, and of a live teacher
            if key in by:
                both = by[key], getattr(ours(), key)
                refuse_differences({f"inputs.teacher.{name}.{key}": both}, where, f"cache changed; {remedy}")


def check_stores(
    made_from: Mapping[str, Any] | None, stores: Mapping[str, LogitStore], where: object, remedy: str
) -> None:
    """Refuse students of other teachers than those of the `stores`, by name; raises InputError."""
    for name, store in stores.items():
        then, now = (made_from or {}).get(name, {}).get("teacher"), store.attributes.fingerprints["teacher"]
        refuse_differences({f"inputs.teacher.{name}": (then, now)}, where, remedy)

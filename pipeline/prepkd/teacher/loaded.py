"""A teacher in memory, and the section of a store's attributes that describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prepkd.models import Normalised


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher's model and card, and its name in the project."""

    name: str
    model: Normalised
    card: Mapping[str, Any]

    def describe(self) -> dict[str, Any]:
        """The section `teacher` of its stores' attributes."""
        return describe_teacher(dict(self.card) | {"name": self.name})


def describe_teacher(card: Mapping[str, Any]) -> dict[str, Any]:
    """The section `teacher` of a store's attributes, from the teacher's card."""
    return {key: card[key] for key in ("name", "model", "weights_fingerprint", "preprocessing")}

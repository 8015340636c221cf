"""Refuse to replace finished work of other settings or inputs without `--replace`."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from prepkd.errors import InputError, refuse_differences
from prepkd.models.weight_claims import CARD, MAX_CARD_BYTES
from prepkd.runtime.files import read_object
from prepkd.settings.sameness import check_trained_by
from prepkd.settings.section import Section

REMEDY = "--replace replaces it"


def finished_card(folder: Path) -> dict[str, Any]:
    """Return a folder's card, of any version; an empty one if it is missing or damaged, since then nothing is finished."""
    try:
        card = read_object(folder / CARD, MAX_CARD_BYTES)
    except (FileNotFoundError, ValueError):
        return {}
    return card if isinstance(card.get("inputs", {}), dict) else {}


def refuse_other(
    had: Mapping[str, Any], settings: Section, inputs: Mapping[str, Any], where: str, *, but: Set[str]
) -> None:
    """Raise InputError if the finished work `had` has other settings (`training`) or inputs.

    Only settings that training reads are compared, without the keys `but`. A setting that did not exist when the work was done
    counts as its default; an input that did not exist is not compared.
    """
    if (training := had.get("training")) is not None:
        try:
            check_trained_by(training, settings, where, REMEDY, but=but)
        except InputError as error:
            known = str(error).endswith(REMEDY)  # else the settings are of another version
            raise error if known else InputError(f"{error}; {REMEDY}") from None
    found = had.get("inputs") or {}
    refuse_differences({f"inputs.{key}": (found[key], inputs[key]) for key in inputs if key in found}, where, REMEDY)

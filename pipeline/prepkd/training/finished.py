"""Finished work is replaced by that of other settings or inputs only if that is asked for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prepkd.errors import refuse_differences
from prepkd.models.checkpoint import CARD

REMEDY = "--replace replaces it"


def finished_card(folder: Path) -> dict[str, Any]:
    """A folder's card, of any version; an empty one if it is missing or damaged: then nothing is finished."""
    try:
        card = json.loads((folder / CARD).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def refuse_other(had: Mapping[str, Any], settings: Mapping[str, Any], inputs: Mapping[str, Any], where: str) -> None:
    """Raise InputError if finished work has other settings (`training`) or inputs.

    A key that did not exist when the work was done is not compared.
    """
    fields = {
        f"{part}.{key}": (found[key], value)
        for part, values in (("training", settings), ("inputs", inputs))
        for found in [had.get(part) or {}]
        for key, value in values.items()
        if key in found
    }
    refuse_differences(fields, where, REMEDY)

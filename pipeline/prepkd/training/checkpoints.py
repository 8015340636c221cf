"""Checkpoints of a run under way: what it goes on from after an interruption."""

import copy
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from prepkd.errors import InputError
from prepkd.runtime.files import replacing

Row = dict[str, float]  # what is logged of one epoch


def freeze(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of each part's state, which further steps leave as it is."""
    return {name: copy.deepcopy(part.state_dict()) for name, part in state.items()}


def save_state(path: Path, frozen: Mapping[str, Any], history: list[Row]) -> None:
    """Write a resumable checkpoint atomically."""
    with replacing(path) as temporary:
        torch.save({**frozen, "history": history}, temporary)


def load_state(path: Path, state: Mapping[str, Any]) -> list[Row]:
    """Load a checkpoint into the parts of a run and return its history; an empty history where there is no checkpoint.

    Raises InputError for a file that is damaged.
    """
    if not path.is_file():
        return []
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, UnpicklingError) as error:
        reason = str(error).split(". ")[0]
        raise InputError(f"{path}: not readable ({reason}); remove it, and training starts anew") from None
    for name, part in state.items():
        part.load_state_dict(saved[name])
    history: list[Row] = saved["history"]
    return history

"""Checkpoints of a run in progress: an interrupted run resumes from them."""

import io
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from prepkd.errors import InputError
from prepkd.runtime.files import write_bytes

# Part of every run's fingerprint: raise it when the loop's arithmetic or a checkpoint's parts change, so that no old
# checkpoint is resumed.
TRAINING_VERSION = 3
Row = dict[str, float]  # the logged figures of one epoch


def pack(state: Mapping[str, Any], history: list[Row]) -> bytes:
    """A checkpoint's content: the state of each part of a run as it is now, and the figures so far."""
    content = io.BytesIO()
    torch.save({name: part.state_dict() for name, part in state.items()} | {"history": history}, content)
    return content.getvalue()


def write_state(path: Path, packed: bytes) -> None:
    """Write a checkpoint atomically."""
    write_bytes(path, packed)


def load_state(path: Path, state: Mapping[str, Any]) -> list[Row]:
    """Load a checkpoint into the parts of a run and return its history, an empty one without a checkpoint.

    Raises InputError for a damaged file.
    """
    if not path.is_file():
        return []
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, UnpicklingError) as error:
        reason = str(error).split(". ")[0]
        raise InputError(f"{path}: not readable ({reason}); remove it, and training starts anew") from None
    if absent := [name for name in (*state, "history") if name not in saved]:
        raise InputError(f"{path}: holds no {absent[0]}; remove it, and training starts anew")
    for name, part in state.items():
        part.load_state_dict(saved[name])
    history: list[Row] = saved["history"]
    return history

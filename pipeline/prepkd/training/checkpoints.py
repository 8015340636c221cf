"""Checkpoints of a run in progress: an interrupted run resumes from them."""

import hashlib
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from prepkd.errors import one_line
from prepkd.runtime import distributed
from prepkd.runtime.files import set_aside, write_bytes

log = logging.getLogger(__name__)

# Part of every run's fingerprint and of a student's card. Raise it when the loop's arithmetic, its random streams or a
# checkpoint's parts change, so that no old checkpoint is resumed and no old result is compared with a new one.
TRAINING_VERSION = 3
Row = dict[str, float]  # the logged figures of one epoch
CHECKSUM = hashlib.sha256().digest_size  # bytes at the start of a checkpoint: the SHA-256 of the rest
UNFIT = (RuntimeError, EOFError, UnpicklingError, KeyError, IndexError, TypeError, ValueError, AttributeError)


def pack(state: Mapping[str, Any], history: list[Row]) -> bytes:
    """Serialise a checkpoint: the current state of each part of a run, and its history."""
    content = io.BytesIO()
    torch.save({name: part.state_dict() for name, part in state.items()} | {"history": history}, content)
    return content.getvalue()


def write_state(path: Path, packed: bytes) -> None:
    """Write a checkpoint atomically, preceded by its checksum."""
    write_bytes(path, hashlib.sha256(packed).digest() + packed)


def resume(path: Path, state: Mapping[str, Any], device: torch.device) -> list[Row]:
    """Call `load_state`; with several processes the first one calls it, and all continue from its state."""
    history = load_state(path, state) if distributed.is_main_process() else []
    if distributed.world_size() > 1:
        packed = distributed.broadcast_bytes(pack(state, history) if distributed.is_main_process() else b"", device)
        history = _unpack(packed, state)
    return history


def load_state(path: Path, state: Mapping[str, Any]) -> list[Row]:
    """Load a checkpoint into the parts of a run and return its history, which is empty without a checkpoint.

    A checkpoint that is damaged, or that these parts cannot load, is set aside under another name, with a warning; the parts
    stay as they were.
    """
    if not path.is_file():
        if os.path.lexists(path):  # training would write there at the end of an epoch
            log.warning(f"{path}: no file; set aside as {set_aside(path).name}, and training starts anew")
        return []
    content, before = path.read_bytes(), pack(state, [])
    try:
        if hashlib.sha256(content[CHECKSUM:]).digest() != content[:CHECKSUM]:
            raise ValueError("damaged, or of an earlier version: its checksum differs")
        return _unpack(content[CHECKSUM:], state)
    except UNFIT as error:
        _unpack(before, state)
        reason = one_line(error).split(". ")[0]
        log.warning(f"{path}: {reason}; set aside as {set_aside(path).name}, and training starts anew")
        return []


def _unpack(packed: bytes, state: Mapping[str, Any]) -> list[Row]:
    saved = torch.load(io.BytesIO(packed), weights_only=True, map_location="cpu")
    if absent := [name for name in (*state, "history") if name not in saved]:
        raise ValueError(f"holds no {absent[0]}")
    for name, part in state.items():
        part.load_state_dict(saved[name])
    history: list[Row] = saved["history"]
    return history

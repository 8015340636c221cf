"""Weights from a file: a state dict, loaded completely or not at all."""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from prepkd.errors import InputError
from prepkd.models.nearest_model import nearest_model
from prepkd.models.weight_layouts import PLAIN, listed, to_model, unpack


class _Ignored:
    """A stand-in for a NumPy number in a pickle, so that no NumPy code runs: weights don't need the number."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# RepDistiller and mdistiller save these beside the weights: the command line as a Namespace, which only takes attributes, and
# the optimizer's learning rate, which their schedules turn into a NumPy number.
HARMLESS: list[Any] = [
    argparse.Namespace,
    *((_Ignored, name) for name in ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")),
]

# The first bytes of torch.save's files: a zip archive, or a pickle before PyTorch 1.6.
STARTS = (b"PK", b"\x80")


def load_weights(model: nn.Module, path: Path) -> str:
    """Load a state dict from a file into a model, in place; returns the file's form, as `weight_layouts.unpack` does.

    Reads `.safetensors`, and with any other suffix, or none as in mdistiller, a file of torch.save. Half precision becomes
    the model's float32, exactly. Code in a pickle is never run. Raises InputError, and leaves the model as it was, for a
    missing or damaged file, a pickle with more than tensors and plain values, names, shapes or kinds of numbers that differ
    from the model's, and a value that is not finite.
    """
    found, form = read_state(path)
    state = to_model(model, found)
    # Checked as float32, which they become: a float64 of 1e300 is infinite there.
    strange = [key for key, v in state.items() if v.is_floating_point() and not v.float().isfinite().all()]
    if strange:
        first = listed(strange[:1])
        raise InputError(f"{path}: {first} holds a value that is not finite; expected a trained model's weights")
    try:
        load_strictly(model, state, where=str(path))
    except InputError as error:
        guess = nearest_model(model, state)
        raise InputError(f"{error}; {guess}" if guess else str(error)) from None
    return form


def read_state(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read a state dict, under the names in the file, and the file's form; raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a model's weights")
    if path.suffix == ".safetensors":
        return read_safetensors(path), PLAIN
    advice = "save tensors only: torch.save(model.state_dict(), path)"
    return unpack(read_pickle(path, kind="a weights file", advice=advice), path)


def read_safetensors(path: Path, hint: str = "is the copy complete?") -> dict[str, Tensor]:
    """Read the tensors of a safetensors file onto the CPU; raises InputError for a damaged file."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file: {_first_line(error)}; {hint}") from None


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict with exactly the model's keys and shapes; otherwise raises InputError and changes nothing."""
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    mismatched = [
        f"{key} {tuple(state[key].shape)}, the model's is {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    # load_state_dict would convert these silently: quantised weights mean nothing without their scales.
    kinds = [(f"{key} {state[key].dtype}", state[key], own[key]) for key in own if key in state]
    problems = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": mismatched,
        "of whole numbers": [text for text, theirs, ours in kinds if _is_whole(theirs) > _is_whole(ours)],
        "of complex numbers": [text for text, theirs, ours in kinds if theirs.is_complex() > ours.is_complex()],
    }
    faults = [f"{len(keys)} {kind}: {listed(keys)}" for kind, keys in problems.items() if keys]
    if faults:
        raise InputError(f"{where}: not this model's weights; {'; '.join(faults)}")
    model.load_state_dict(dict(state))


def read_pickle(path: Path, *, kind: str, advice: str) -> object:
    """Read a file of torch.save onto the CPU: tensors and plain values; code in the pickle is never run.

    Raises InputError for a damaged file, and for a pickle that would run code.
    """
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL ([\w.]+\.\w+)", str(error))
        if blocked is None:
            raise InputError(f"{path}: not {kind} of torch.save, or damaged") from None
        raise InputError(f"{path}: loading would run {blocked[1]}, refused; {advice}") from None
    except Exception as error:  # noqa: BLE001 - a damaged file makes the unpickler raise almost anything, from struct.error to KeyError
        with path.open("rb") as file:
            start = file.read(2)
        if start and not start.startswith(STARTS):
            raise InputError(f"{path}: not {kind} of torch.save, or damaged") from None
        raise InputError(f"{path}: not a whole file of torch.save: {_first_line(error)}") from None


def _is_whole(value: Tensor) -> bool:
    return not value.is_floating_point() and not value.is_complex()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

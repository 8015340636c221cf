"""Weights from a file: somebody's state dict, loaded whole or not at all."""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from prepkd.errors import InputError


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict from a `.safetensors`, `.pt` or `.pth` file into a model, in place.

    The state dict stands alone or under "state_dict" or "model"; the prefix "module." of DataParallel is dropped. Code in
    a pickle is never run. Raises InputError, and leaves the model as it was, for a missing or damaged file, a pickle that
    holds more than tensors and plain values, and for keys or shapes that are not the model's.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a model's weights")
    if path.suffix == ".safetensors":
        state: Mapping[str, Tensor] = read_safetensors(path)
    elif path.suffix in (".pt", ".pth"):
        state = _read_state(path)
    else:
        raise InputError(f"{path}: ends in {path.suffix!r}; expected .safetensors, .pt or .pth")
    prefix = "module."
    if all(key.startswith(prefix) for key in state) and not all(key.startswith(prefix) for key in model.state_dict()):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    load_strictly(model, state, where=str(path))


def read_safetensors(path: Path, hint: str = "is the copy complete?") -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU; raises InputError for a damaged file."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file: {_first_line(error)}; {hint}") from None


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict whose keys and shapes are exactly the model's; else raises InputError and changes nothing."""
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    mismatched = [
        f"{key} {tuple(state[key].shape)}, the model's is {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    faults = [f"{len(keys)} {kind}: {_first(keys)}" for kind, keys in problems.items() if keys]
    if faults:
        raise InputError(f"{where}: not this model's weights; {'; '.join(faults)}")
    model.load_state_dict(dict(state))


def read_pickle(path: Path, *, kind: str, advice: str) -> object:
    """What torch.save wrote, on the CPU: tensors and plain values; code in the pickle is never run. Raises InputError."""
    try:
        # RepDistiller keeps its command line beside the weights. A Namespace only takes attributes: nothing of it is called.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL ([\w.]+\.\w+)", str(error))
        if blocked is None:
            raise InputError(f"{path}: not {kind} of torch.save, or damaged") from None
        raise InputError(f"{path}: loading would run {blocked[1]}, refused; {advice}") from None
    except Exception as error:  # noqa: BLE001 - a damaged file leads the unpickler into any of them, struct.error to KeyError
        raise InputError(f"{path}: not a whole file of torch.save: {_first_line(error)}") from None


def _read_state(path: Path) -> dict[str, Tensor]:
    advice = "save tensors only: torch.save(model.state_dict(), path)"
    content = read_pickle(path, kind="a weights file", advice=advice)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise InputError(
            f"{path}: holds {type(content).__name__}; expected a state dict, alone or under state_dict or model"
        )
    strange = [str(key) for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if strange:
        raise InputError(f"{path}: expected a state dict of tensors; found something else under {_first(strange)}")
    return dict(content)


def _first(keys: list[str]) -> str:
    # A damaged key may hold line breaks; the message is one line.
    return " ".join(", ".join(keys[:3]).split()) + (", ..." if len(keys) > 3 else "")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

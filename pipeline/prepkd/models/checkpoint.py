"""Checkpoints: a folder with `model.safetensors` and `model.json`, its card; equal models give equal bytes.

Both carry a checksum: the card records its own and that of the weights.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import save
from torch import Tensor

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models.build import build_model
from prepkd.models.names import architecture
from prepkd.models.normalised import Normalised
from prepkd.models.weight_claims import CARD, MAX_CARD_BYTES
from prepkd.models.weight_files import WEIGHTS, read_safetensors
from prepkd.models.weights import COMPLEX, FLOATS, WHOLE, load_strictly
from prepkd.runtime.files import array_fingerprint, canonical_json, fingerprint, read_object, write_bytes, write_json

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

FORMAT = "prepkd-checkpoint-2"  # 1: without a checksum of the card
CHECKSUM = "sha256"
EXPORTED_CARD = "config.json"  # the card in a folder of `prepkd export`, by the name that the Hugging Face Hub knows
HASHED = (FLOATS | WHOLE | COMPLEX) - {torch.bfloat16}


def save_checkpoint(folder: Path, model: Normalised, card: Mapping[str, JSON]) -> None:
    """Write a model's weights, then its card, which makes the checkpoint valid.

    The card has at least `model` (a name for `build_model`), `num_classes` and `in_channels`; `format`, `preprocessing`,
    `weights_fingerprint` and the card's `sha256` are added. Raises InputError for a card that `load_card` would refuse.
    """
    state = _state(model)
    full = {
        **card,
        "format": FORMAT,
        "preprocessing": model.preprocessing.describe(),
        "weights_fingerprint": _fingerprint(state),
    }
    _check_card(full, "card")
    canonical_json(full)  # a value that isn't JSON must fail here, before anything is overwritten
    # One metadata key only: safetensors writes several in the order of a hash table that differs by process.
    write_bytes(folder / WEIGHTS, save(state, metadata={"prepkd": canonical_json({"format": FORMAT})}))
    write_card(folder, full)


def write_card(folder: Path, card: Mapping[str, JSON]) -> None:
    """Write a card with the SHA-256 of its content, which `load_card` checks."""
    write_json(folder / CARD, {**card, CHECKSUM: _checksum(card)})


def weights_fingerprint(model: Normalised) -> str:
    """The SHA-256 of a model's weights, as its card records it."""
    return _fingerprint(_state(model))


def _state(model: Normalised) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for key, value in model.body.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(f"the model's state {key!r} is of type {type(value).__name__}; expected a tensor")
        # A contiguous copy: safetensors refuses channels-last tensors and tensors that share memory.
        state[key] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return state


def load_checkpoint(
    folder: Path, device: torch.device | str = "cpu", *, hint: str = "run `prepkd train-teacher`"
) -> tuple[Normalised, dict[str, Any]]:
    """Load a model, in eval mode on `device`, and its card; keeps torch's random state on the CPU.

    `hint` ends the error message for a missing or damaged file: the command that makes it. Raises InputError for such a
    file, for weights that differ from the card's fingerprint, and for an architecture that has changed.
    """
    card = load_card(folder, hint)
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path}: no such file; {hint}")
    state = read_safetensors(path, hint)
    found = _fingerprint(state, f"{path}: ")
    if found != card["weights_fingerprint"]:
        raise InputError(
            f"{folder}: weights_fingerprint is {card['weights_fingerprint']} in {CARD}, "
            f"but {WEIGHTS} has {found}; {hint}"
        )
    # Building draws initial weights: loading a teacher must not change the weights of a student that is built next.
    with torch.random.fork_rng(devices=[]):
        body = build_model(architecture(card["model"]), card["num_classes"], in_channels=card["in_channels"])
    load_strictly(body, state, where=f"{path} for model {card['model']!r}")
    return Normalised(body, Preprocessing.from_description(card["preprocessing"])).to(device).eval(), card


def load_card(folder: Path, hint: str = "run `prepkd train-teacher`") -> dict[str, Any]:
    """Load a checkpoint's card, without its weights and its checksum.

    Raises InputError if it is missing, larger than 16 MiB or differs from its checksum, with `hint`.
    """
    path = folder / CARD
    if not path.is_file():
        if not (folder / EXPORTED_CARD).is_file():
            raise InputError(f"{path}: no such file; {hint}")
        path = folder / EXPORTED_CARD
    try:
        card = read_object(path, MAX_CARD_BYTES)
        found = _checksum(card)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}; {hint}") from None
    if card.get("format") != FORMAT:
        raise InputError(f"{path}: format is {card.get('format')!r}; expected {FORMAT!r}; {hint}")
    if (recorded := card.pop(CHECKSUM, None)) != found:
        raise InputError(f"{path}: damaged: its sha256 is {found[:12]}, expected {str(recorded)[:12]}; {hint}")
    _check_card(card, str(path))
    return card


def _checksum(card: Mapping[str, JSON]) -> str:
    """The SHA-256 of a card without its checksum, as it is read back: a key that is no string becomes one."""
    return fingerprint({key: value for key, value in json.loads(canonical_json(card)).items() if key != CHECKSUM})


def _check_card(card: Mapping[str, Any], where: str) -> None:
    kinds = {"model": str, "num_classes": int, "in_channels": int, "preprocessing": dict, "weights_fingerprint": str}
    kinds |= {key: dict for key in ("inputs", "training") if key in card}  # not in every card
    for key, kind in kinds.items():
        if not isinstance(card.get(key), kind):
            raise InputError(f"{where}: {key} is {card.get(key)!r}; expected {kind.__name__}")
    check_teachers(card.get("inputs", {}).get("teacher"), where)
    for key in ("mean", "std"):
        values = card["preprocessing"].get(key)
        if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
            raise InputError(f"{where}: preprocessing.{key} is {values!r}; expected a list of numbers")
        if len(values) != card["in_channels"]:
            raise InputError(
                f"{where}: preprocessing.{key} has {len(values)} channels; in_channels is {card['in_channels']}"
            )


def check_teachers(found: object, where: str) -> None:
    """Raise InputError unless the teachers that a file records are None, or by name what their answers depend on."""
    if found is not None and not (isinstance(found, dict) and all(isinstance(one, dict) for one in found.values())):
        raise InputError(f"{where}: inputs.teacher is {str(found)[:40]!r}; expected null, or an object per teacher")


def _fingerprint(state: Mapping[str, Tensor], where: str = "") -> str:
    for key, value in state.items():
        if value.dtype not in HASHED:
            raise InputError(f"{where}the weights {key} are {value.dtype}; expected a kind of number that NumPy has")
    return array_fingerprint({key: value.numpy() for key, value in state.items()})

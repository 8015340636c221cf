"""Weights from a file, loaded completely or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from prepkd.errors import InputError
from prepkd.models.nearest_model import nearest_model
from prepkd.models.weight_claims import WeightClaims, find_claims
from prepkd.models.weight_files import read_weights_file
from prepkd.models.weight_layouts import listed
from prepkd.models.weight_sets import choose_weights, shape_of

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
WHOLE = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
WHOLE |= {torch.uint16, torch.uint32, torch.uint64}
COMPLEX = {torch.complex64, torch.complex128}


@dataclass(frozen=True)
class LoadedWeights:
    """Weights loaded from a file: its form, the key of the weights, other weights in the file, and the file's claims.

    `others` are keys of parts of the same weights, `unnamed` those of weights without names; `classifier` names the tensors that
    stay the model's own.
    """

    form: str
    key: str
    others: tuple[str, ...]
    unnamed: tuple[str, ...]
    classifier: tuple[str, ...]
    claims: WeightClaims


def load_weights(model: nn.Module, path: Path, key: str | None = None, *, classes: int | None = None) -> LoadedWeights:
    """Load a state dict from a file into a model, in place, and describe it; see `choose_weights` for the arguments.

    Reads files of torch.save and safetensors. Half precision becomes the model's float32, exactly. Code in a pickle is never
    run. Raises InputError, and leaves the model as it was, for a missing or damaged file, another kind of file, several sets
    of weights and no `key`, names, shapes or kinds of numbers that differ from the model's, and values that are not finite.
    """
    content = read_weights_file(path)
    chosen = choose_weights(model, content, path, key=key, classes=classes)
    try:
        check_strictly(model, chosen.state, where=str(path))
    except InputError as error:
        guess = nearest_model(model, chosen.state)
        raise InputError(f"{error}; {guess}" if guess else str(error)) from None
    refuse_not_finite(chosen.state, where=str(path))
    model.load_state_dict(dict(chosen.state))
    claims = find_claims(content, path)
    return LoadedWeights(chosen.form, chosen.key, chosen.others, chosen.unnamed, chosen.classifier, claims)


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict with exactly the model's keys and shapes; otherwise raises InputError and changes nothing."""
    check_strictly(model, state, where=where)
    model.load_state_dict(dict(state))


def check_strictly(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Raise InputError unless a state dict has exactly the model's names, shapes and kinds of numbers, as dense tensors.

    Only metadata is compared, so a tensor that claims to be large costs nothing.
    """
    own = model.state_dict()
    both = [(name, state[name], own[name]) for name in own if name in state]
    problems = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {shape_of(theirs)}, the model's is {tuple(ours.shape)}"
            for name, theirs, ours in both
            if shape_of(theirs) != tuple(ours.shape)
        ],
        # load_state_dict would convert these silently: quantised weights mean nothing without their scales.
        "of whole numbers": [f"{n} {v.dtype}" for n, v, ours in both if v.dtype in WHOLE and not _is_whole(ours)],
        "of complex numbers": [f"{n} {v.dtype}" for n, v, ours in both if v.dtype in COMPLEX and not ours.is_complex()],
        "quantised": [f"{n} {v.dtype}" for n, v, _ in both if v.dtype not in FLOATS | WHOLE | COMPLEX],
        "not dense": [f"{n} {v.layout}" for n, v, _ in both if v.layout != torch.strided or v.is_nested],
        "without values": [f"{n} on device meta" for n, v, _ in both if v.is_meta],
    }
    faults = [f"{len(keys)} {kind}: {listed(keys)}" for kind, keys in problems.items() if keys]
    if faults:
        raise InputError(f"{where}: not this model's weights; {'; '.join(faults)}")


def refuse_not_finite(state: Mapping[str, Tensor], *, where: str) -> None:
    """Raise InputError for a state dict with a value that is not finite."""
    # Checked as float32, which they become: a float64 of 1e300 is infinite there.
    strange = [name for name, v in state.items() if v.is_floating_point() and not v.float().isfinite().all()]
    if strange:
        first = listed(strange[:1])
        raise InputError(f"{where}: {first} holds a value that is not finite; expected a trained model's weights")


def _is_whole(value: Tensor) -> bool:
    return not value.is_floating_point() and not value.is_complex()

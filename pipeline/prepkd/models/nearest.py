"""Weights that don't fit the model they were meant for: which model of the zoo has them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prepkd.models.build import MODELS, build_model

Shapes = Mapping[str, tuple[int, ...]]
CLASSES = 10_007  # no layer's width: a tensor of this length belongs to the classifier


def nearest_model(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Which model of the zoo a state dict is of, or nearer to than to `model`; empty where there is none such."""
    found = _shapes(state)
    best, best_name, classes = _likeness(_shapes(model.state_dict()), found), "", 0
    for name in MODELS:
        with torch.device("meta"):
            own = dict(_shapes(build_model(name, CLASSES).state_dict()))
        head = [key for key, shape in own.items() if shape[0] == CLASSES and found.get(key)]
        own |= {key: (found[key][0], *own[key][1:]) for key in head}
        if (share := _likeness(own, found)) > best:
            best, best_name, classes = share, name, found[head[0]][0] if head else 0
    if not best_name or best < 0.5:
        return ""
    return f"{best:.0%} of it is model {best_name}" + (f" for {classes} classes" if classes else "")


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}


def _likeness(ours: Shapes, theirs: Shapes) -> float:
    """The share of tensors that agree in name and shape."""
    return len(ours.items() & theirs.items()) / len(ours.keys() | theirs.keys())

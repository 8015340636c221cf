"""Find the model of the zoo that given weights belong to, for an error message."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prepkd.models.weight_sets import shape_of
from prepkd.models.zoo import MODELS

Shapes = Mapping[str, tuple[int, ...]]
CLASSES = 10_007  # not the width of any layer: a tensor of this length belongs to the classifier


def nearest_model(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Name the model of the zoo that a state dict fits best; empty if that is `model`, or none fits half of it."""
    found = _shapes(state)
    best, best_name, classes = _agreement(_shapes(model.state_dict()), found), "", 0
    for name, make in MODELS.items():
        with torch.device("meta"):
            own = dict(_shapes(make(num_classes=CLASSES, in_channels=3).state_dict()))
        head = [key for key, shape in own.items() if shape[0] == CLASSES and found.get(key)]
        own |= {key: (found[key][0], *own[key][1:]) for key in head}
        if (share := _agreement(own, found)) > best:
            best, best_name, classes = share, name, found[head[0]][0] if head else 0
    if not best_name or best < 0.5:
        return ""
    return f"{best:.0%} of it fits model {best_name}" + (f" for {classes} classes" if classes else "")


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key: shape_of(value) for key, value in state.items() if not key.endswith("num_batches_tracked")}


def _agreement(ours: Shapes, theirs: Shapes) -> float:
    """The share of tensors that agree in name and shape."""
    return len(ours.items() & theirs.items()) / len(ours.keys() | theirs.keys())

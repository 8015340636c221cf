"""The operations of RandAugment and TrivialAugment by name, and their magnitudes."""

from functools import lru_cache

import torch

# A view's integer is a place in this tuple, which has torchvision's order; `operations.OPERATIONS` applies them.
NAMES = (
    "identity",
    "shear-x",
    "shear-y",
    "translate-x",
    "translate-y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
SIGNED = frozenset(NAMES[1:10])


@lru_cache(maxsize=4096)
def magnitude_of(operation: str, strongest: float, level: int, bins: int, negative: int) -> float:
    """The magnitude of level `level` of `bins`, in float32 steps as torchvision's; 0 for an operation that takes none."""
    if operation in SIGNED:
        size = float(torch.linspace(0, strongest, bins)[level])
        return -size if negative else size
    if operation == "posterize":  # bits that are kept
        return float((8 - torch.arange(bins)[level] / ((bins - 1) / strongest)).round())
    if operation == "solarize":  # threshold
        return float(torch.linspace(1, 0, bins)[level])
    return 0.0

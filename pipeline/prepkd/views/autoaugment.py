"""RandAugment and TrivialAugment: an image's operations, each torchvision's, of a magnitude that is looked up.

Sources: Cubuk et al., "RandAugment", arXiv 1909.13719; Müller and Hutter, "TrivialAugment", arXiv 2103.10158.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import atan, degrees
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from prepkd.views.steps import TRIVIAL_BINS, Augmentation, RandAugment, TrivialAugment


def _affine(images: Tensor, **moved: Any) -> Tensor:
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    return torch.as_tensor(F.affine(images, **still | moved))


# By an integer of the view, in torchvision's order. What takes no magnitude ignores it.
OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda images, _: images,
    "shear-x": lambda images, slope: _affine(images, shear=[degrees(atan(slope)), 0.0], center=[0, 0]),
    "shear-y": lambda images, slope: _affine(images, shear=[0.0, degrees(atan(slope))], center=[0, 0]),
    "translate-x": lambda images, pixels: _affine(images, translate=[int(pixels), 0]),
    "translate-y": lambda images, pixels: _affine(images, translate=[0, int(pixels)]),
    "rotate": lambda images, angle: F.rotate(images, angle),
    "brightness": lambda images, change: F.adjust_brightness(images, 1 + change),
    "color": lambda images, change: F.adjust_saturation(images, 1 + change),
    "contrast": lambda images, change: F.adjust_contrast(images, 1 + change),
    "sharpness": lambda images, change: F.adjust_sharpness(images, 1 + change),
    "posterize": lambda images, bits: F.posterize(images, int(bits)),
    "solarize": lambda images, threshold: F.solarize(images, 255 * threshold),
    "autocontrast": lambda images, _: F.autocontrast(images),
    "equalize": lambda images, _: F.equalize(images),
}
NAMES = tuple(OPERATIONS)
SIGNED = frozenset(NAMES[1:10])


def rand_strength(operation: str, height: int, width: int) -> float:
    """How strong the last bin is, in RandAugment's space; a translation's is a share of the image."""
    sides = {"translate-x": width, "translate-y": height}
    if operation in sides:
        return 150 / 331 * sides[operation]
    return {"shear-x": 0.3, "shear-y": 0.3, "rotate": 30.0, "posterize": 4.0}.get(operation, 0.9)


def wide_strength(operation: str, height: int, width: int) -> float:
    """How strong the last bin is, in TrivialAugment's wide space."""
    return {"translate-x": 32.0, "translate-y": 32.0, "rotate": 135.0, "posterize": 6.0}.get(operation, 0.99)


@lru_cache(maxsize=4096)
def magnitude(operation: str, strongest: float, level: int, bins: int, negative: int) -> float:
    """The magnitude of level `level` of `bins`, in float32 steps as torchvision's; 0 for an operation that takes none."""
    if operation in SIGNED:
        size = float(torch.linspace(0, strongest, bins)[level])
        return -size if negative else size
    if operation == "posterize":  # bits that are kept
        return float((8 - torch.arange(bins)[level] / ((bins - 1) / strongest)).round())
    if operation == "solarize":  # threshold
        return float(torch.linspace(1, 0, bins)[level])
    return 0.0


def augment(images: Tensor, operations: Sequence[tuple[str, float]]) -> Tensor:
    """Apply one operation with its magnitude to each image, uint8 (B, 1 or 3, H, W); equal ones run together."""
    if images.shape[1] not in (1, 3):
        raise ValueError(f"images have {images.shape[1]} channels; randaugment and trivial-augment take 1 or 3")
    alike: dict[tuple[str, float], list[int]] = defaultdict(list)
    for i, operation in enumerate(operations):
        alike[operation].append(i)
    result = torch.empty_like(images)
    for (name, size), members in alike.items():
        here = torch.tensor(members, device=images.device)
        result[here] = OPERATIONS[name](images[here], size)
    return result


def randaugment(images: Tensor, parameters: Tensor, step: Augmentation) -> Tensor:
    """RandAugment with the operations and signs of each row; uint8 (B, C, H, W), integers (B, 2 * ops)."""
    assert isinstance(step, RandAugment)
    height, width = images.shape[-2:]
    sizes = {
        (name, negative): magnitude(name, rand_strength(name, height, width), step.magnitude, step.bins, negative)
        for name in NAMES
        for negative in (0, 1)
    }
    for drawn in parameters.cpu().view(len(images), step.ops, 2).unbind(dim=1):
        chosen = [(NAMES[operation], negative) for operation, negative in drawn.tolist()]
        images = augment(images, [(name, sizes[name, negative]) for name, negative in chosen])
    return images


def trivial_augment(images: Tensor, parameters: Tensor, step: Augmentation) -> Tensor:
    """TrivialAugment (wide) with each row's operation, magnitude and sign; uint8 (B, C, H, W), integers (B, 3)."""
    assert isinstance(step, TrivialAugment)
    height, width = images.shape[-2:]
    operations = [
        (NAMES[o], magnitude(NAMES[o], wide_strength(NAMES[o], height, width), level, TRIVIAL_BINS, negative))
        for o, level, negative in parameters.tolist()
    ]
    return augment(images, operations)

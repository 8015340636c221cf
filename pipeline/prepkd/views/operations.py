"""The operations of RandAugment and TrivialAugment on pixels: torchvision's."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from math import atan, degrees
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F


def _affine(images: Tensor, **moved: Any) -> Tensor:
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    return torch.as_tensor(F.affine(images, **still | moved))


# One function of images and magnitude for each of `magnitudes.NAMES`; an operation without a magnitude ignores it.
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


def apply_operations(images: Tensor, operations: Sequence[tuple[str, float]]) -> Tensor:
    """Apply one operation with its magnitude to each image, uint8 (B, 1 or 3, H, W); images with equal ones run together.

    Raises ValueError for other numbers of channels.
    """
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

"""A model with its own preprocessing: it resizes and normalises pixels."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError


class Normalised(nn.Module):
    """A model of float pixels (B, C, H, W) in [0, 1]: resize if its preprocessing has a size, (x - mean) / std, then `body`.

    Raises InputError for images with another number of channels.
    """

    body: nn.Module
    preprocessing: Preprocessing
    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.body = body
        self.preprocessing = preprocessing
        # Not persistent: the checkpoint's card has them, in readable form.
        self.register_buffer("mean", _per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("std", _per_channel(preprocessing.std), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The body's output, logits (B, K), for pixels (B, C, H, W)."""
        return cast(Tensor, self.body(self.prepare(x)))

    def prepare(self, x: Tensor) -> Tensor:
        """The body's input: resized and normalised pixels."""
        # Without this check, broadcasting would silently turn a grey image into three channels.
        if x.shape[1] != self.mean.shape[1]:
            raise InputError(f"images have {x.shape[1]} channels; the model takes {self.mean.shape[1]}")
        size = self.preprocessing.size
        if size and x.shape[-2:] != (size, size):
            # Bicubic interpolation overshoots; pixels stay within [0, 1], as in a resized image file.
            x = functional.interpolate(x, (size, size), mode=self.preprocessing.interpolation, antialias=True).clamp(
                0, 1
            )
        return (x - self.mean) / self.std


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)

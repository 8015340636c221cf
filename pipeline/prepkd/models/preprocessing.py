"""What a model does to pixels first, kept with its weights."""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from prepkd.errors import InputError


@dataclass(frozen=True)
class Preprocessing:
    """Mean and standard deviation of each channel, for float pixels in [0, 1].

    Raises InputError unless both name the same channels, finite, std > 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        sound = all(map(math.isfinite, self.mean + self.std)) and all(value > 0 for value in self.std)
        if not self.mean or len(self.mean) != len(self.std) or not sound:
            raise InputError(
                f"preprocessing has mean {self.mean} and std {self.std}; "
                "expected one finite number a channel in each, std > 0"
            )


class Normalised(nn.Module):
    """A model that takes float pixels (B, C, H, W) in [0, 1]: (x - mean) / std, then `body`.

    Raises InputError for images with another number of channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.body = body
        self.preprocessing = preprocessing
        # Not persistent: they stand in the checkpoint's card, where a person can read them.
        self.register_buffer("mean", _per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("std", _per_channel(preprocessing.std), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The body's output, logits (B, K), for pixels (B, C, H, W)."""
        # Without this, broadcasting turns a grey image into three channels and goes on.
        if x.shape[1] != self.mean.shape[1]:
            raise InputError(f"images have {x.shape[1]} channels; the model takes {self.mean.shape[1]}")
        return cast(Tensor, self.body((x - self.mean) / self.std))


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)

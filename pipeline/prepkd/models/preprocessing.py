"""What a model does to pixels first, kept with its weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from prepkd.errors import InputError

if TYPE_CHECKING:
    from prepkd.data import Statistics

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocessing:
    """Mean and standard deviation of each channel, for float pixels in [0, 1]; the side to which pictures are resized first.

    Raises InputError unless mean and std name the same channels, finite, std > 0, and the interpolation is known.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        sound = all(map(math.isfinite, self.mean + self.std)) and all(value > 0 for value in self.std)
        if not self.mean or len(self.mean) != len(self.std) or not sound:
            raise InputError(
                f"preprocessing has mean {self.mean} and std {self.std}; "
                "expected one finite number a channel in each, std > 0"
            )
        if self.interpolation not in INTERPOLATIONS or (self.size is not None and self.size < 1):
            raise InputError(
                f"preprocessing has size {self.size} and interpolation {self.interpolation!r}; "
                f"expected a size >= 1 and one of {', '.join(INTERPOLATIONS)}"
            )

    @classmethod
    def by(cls, statistics: "Statistics") -> "Preprocessing":
        """What gives the channels of some images mean 0 and deviation 1; raises InputError where one is the same everywhere."""
        return cls(statistics.mean, statistics.std)

    def describe(self) -> dict[str, Any]:
        """The preprocessing as JSON; what is not asked for is left out. `from_description` reads it back."""
        resizing = {"size": self.size, "interpolation": self.interpolation} if self.size else {}
        return {"mean": list(map(float, self.mean)), "std": list(map(float, self.std)), **resizing}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Preprocessing":
        """The preprocessing that `describe` wrote down."""
        mean, std = (tuple(map(float, description[key])) for key in ("mean", "std"))
        return cls(mean, std, description.get("size"), description.get("interpolation", "bilinear"))


class Normalised(nn.Module):
    """A model that takes float pixels (B, C, H, W) in [0, 1]: resized where it asks for it, (x - mean) / std, then `body`.

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
        size = self.preprocessing.size
        if size and x.shape[-2:] != (size, size):
            # Bicubic overshoots; pixels stay within [0, 1], as resized images do.
            x = functional.interpolate(x, (size, size), mode=self.preprocessing.interpolation, antialias=True).clamp(
                0, 1
            )
        return cast(Tensor, self.body((x - self.mean) / self.std))


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)

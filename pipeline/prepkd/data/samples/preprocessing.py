"""Preprocessing of pixels, kept with a model's weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prepkd.data.images.statistics import Statistics
from prepkd.errors import InputError

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocessing:
    """Mean and standard deviation of each channel, for float pixels in [0, 1], and the side to which pictures are resized first.

    Raises InputError unless mean and std are finite and of equal length, std > 0, and the interpolation is known.
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
                "expected one finite number per channel in each, std > 0"
            )
        if self.interpolation not in INTERPOLATIONS or (self.size is not None and self.size < 1):
            raise InputError(
                f"preprocessing has size {self.size} and interpolation {self.interpolation!r}; "
                f"expected a size >= 1 and one of {', '.join(INTERPOLATIONS)}"
            )

    @classmethod
    def from_statistics(cls, statistics: Statistics) -> "Preprocessing":
        """Normalise channels to mean 0 and deviation 1; raises InputError if a channel is constant."""
        return cls(statistics.mean, statistics.std)

    def describe(self) -> dict[str, Any]:
        """The preprocessing as JSON, without resizing if there is none; `from_description` reads it back."""
        resizing = {"size": self.size, "interpolation": self.interpolation} if self.size else {}
        return {"mean": list(map(float, self.mean)), "std": list(map(float, self.std)), **resizing}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Preprocessing":
        """Read the result of `describe` back."""
        mean, std = (tuple(map(float, description[key])) for key in ("mean", "std"))
        return cls(mean, std, description.get("size"), description.get("interpolation", "bilinear"))

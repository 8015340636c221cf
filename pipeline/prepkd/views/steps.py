"""The steps that a recipe is made of: their settings, and how many values each of a view's integers takes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# Fractions are fixed-point numbers of 15 bits: a store keeps them as int16, whose minimum stays free to mean "missing".
FRACTIONS = 2**15
OPERATIONS = 14  # of RandAugment and of TrivialAugment, by their place in `autoaugment.OPERATIONS`
TRIVIAL_BINS = 31


class Augmentation(BaseModel, ABC):
    """One step of a recipe; a view's row holds one integer in [0, n) for each n of `ranges`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @property
    @abstractmethod
    def ranges(self) -> tuple[int, ...]:
        """How many values each of this step's integers can take."""


def _interval(least: float, most: float) -> Callable[[object], tuple[float, float]]:
    def parse(value: object) -> tuple[float, float]:
        if isinstance(value, list | tuple) and len(value) == 2 and all(type(x) in (int, float) for x in value):
            low, high = map(float, value)
            if least <= low <= high <= most:
                return low, high
        raise ValueError(f"[low, high] with {least:g} <= low <= high <= {most:g}")

    return parse


Scale = Annotated[tuple[float, float], BeforeValidator(_interval(0, 1))]
Ratio = Annotated[tuple[float, float], BeforeValidator(_interval(0.001, 1000))]


class Crop(Augmentation):
    """Pad by `padding` black pixels, then cut the image's size out again at (top, left)."""

    padding: int = Field(default=4, ge=1, le=127)

    @property
    def ranges(self) -> tuple[int, ...]:
        """Top and left offset, each 0 to 2 * padding."""
        return (2 * self.padding + 1, 2 * self.padding + 1)


class Flip(Augmentation):
    """Mirror left and right."""

    @property
    def ranges(self) -> tuple[int, ...]:
        """1 where the image is mirrored."""
        return (2,)


class ResizedCrop(Augmentation):
    """Cut a box of a share `scale` of the area and an aspect ratio (width / height) out, and resize it to `size` squared.

    With `size` null the result has the images' own size, which must be one for all.
    """

    size: int | None = Field(default=None, ge=1)
    scale: Scale = (0.08, 1.0)
    ratio: Ratio = (3 / 4, 4 / 3)

    @property
    def ranges(self) -> tuple[int, ...]:
        """Fractions: area, logarithm of the aspect ratio, top, left."""
        return (FRACTIONS,) * 4


class Erase(Augmentation):
    """With a probability, set a box of a share `scale` of the area and an aspect ratio (height / width) to `value`."""

    probability: float = Field(default=0.5, ge=0, le=1)
    scale: Scale = (0.02, 0.33)
    ratio: Ratio = (0.3, 3.3)
    value: int = Field(default=0, ge=0, le=255)

    @property
    def ranges(self) -> tuple[int, ...]:
        """Fractions: erased if below the probability, area, logarithm of the aspect ratio, top, left."""
        return (FRACTIONS,) * 5


class RandAugment(Augmentation):
    """`ops` operations in a row, each drawn from 14, all of magnitude `magnitude` of `bins`."""

    ops: int = Field(default=2, ge=1, le=14)
    magnitude: int = Field(default=9, ge=0)
    bins: int = Field(default=31, ge=2, le=1001)

    @model_validator(mode="after")
    def _magnitude_is_a_bin(self) -> "RandAugment":
        if self.magnitude >= self.bins:
            raise ValueError(f"a magnitude below bins, {self.bins}")
        return self

    @property
    def ranges(self) -> tuple[int, ...]:
        """Operation and sign (1: negative), `ops` times."""
        return (OPERATIONS, 2) * self.ops


class TrivialAugment(Augmentation):
    """One operation, drawn from 14, of a magnitude drawn from 31: TrivialAugment's wide space."""

    @property
    def ranges(self) -> tuple[int, ...]:
        """Operation, magnitude, sign (1: negative)."""
        return (OPERATIONS, TRIVIAL_BINS, 2)

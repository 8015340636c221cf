"""What one step of a recipe may do to an image: its settings, and how many values each of its integers takes."""

from abc import ABC, abstractmethod

from pydantic import BaseModel, ConfigDict, Field


class Augmentation(BaseModel, ABC):
    """One step of a recipe; a view's row holds one integer in [0, n) for each n of `ranges`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @property
    @abstractmethod
    def ranges(self) -> tuple[int, ...]:
        """How many values each of this step's integers can take."""


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

"""The interface of a recipe's steps."""

from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor


class Step(BaseModel, ABC):
    """One step of a recipe: its settings, and its integers in a view's row, one in [0, n) for each n of `ranges`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)

    @property
    @abstractmethod
    def ranges(self) -> tuple[int, ...]:
        """The number of values of each of this step's integers."""


class Augmentation(Step):
    """A step that renders each image by itself."""

    @abstractmethod
    def render(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Render uint8 images (B, C, H, W) by their integers (B, p), p integers as in `ranges`; uint8."""

"""Images as the first step of a recipe takes them: tensors, or decoded images of any size."""

from typing import Protocol

from torch import Tensor


class Picture(Protocol):
    """A decoded image of any size, whose pixels are copied only as far as they are needed."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, h, w)."""

    def box(self, top: int, left: int, height: int, width: int) -> Tensor:
        """Copy a box of the image, uint8 (3, height, width)."""

    def whole(self) -> Tensor:
        """Copy the whole image, uint8 (3, h, w)."""


Image = Tensor | Picture

"""The framing of images of any size for a model that is evaluated: size, and part of the image."""

from typing import Annotated

from pydantic import Field, model_validator

from prepkd.settings.section import Section

Side = Annotated[int, Field(ge=1, le=2**16)]


class Framing(Section):
    """The height and width of evaluated images; larger and smaller ones are resized, and the middle is cut out.

    `resize` is the length of the shorter side before the cut; None: just long enough to cover height and width.
    """

    height: Side
    width: Side
    resize: Side | None = None

    @model_validator(mode="after")
    def _covered(self) -> "Framing":
        if self.resize is not None and self.resize < max(self.size):
            raise ValueError(f"resizes to {self.resize}; expected at least the frame's {max(self.size)}")
        return self

    @classmethod
    def centred(cls, side: int) -> "Framing":
        """Squares from the middle, after the shorter side is resized to 8/7 of `side`.

        256 for 224 is how ImageNet is evaluated (Krizhevsky et al. 2012).
        """
        return cls(height=side, width=side, resize=round(side * 8 / 7))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) to which an image of this size is resized; its proportions stay, up to rounding."""
        if self.resize is not None:  # as torchvision's Resize: the longer side is rounded down
            shorter = min(height, width)
            return self.resize * height // shorter, self.resize * width // shorter
        # Whole numbers, rounded up: the result covers the frame, and one side fits it exactly.
        if self.height * width >= self.width * height:
            return self.height, -(-width * self.height // height)
        return -(-height * self.width // width), self.width

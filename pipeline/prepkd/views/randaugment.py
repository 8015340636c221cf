"""RandAugment. Source: Cubuk et al., arXiv 1909.13719."""

from pydantic import Field, model_validator
from torch import Tensor

from prepkd.views.augmentation import Augmentation
from prepkd.views.magnitudes import NAMES, magnitude_of


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
        return (len(NAMES), 2) * self.ops

    def render(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Apply each row's operations with their signs; uint8 (B, 1 or 3, H, W), integers (B, 2 * ops)."""
        # Imported here: it imports torchvision's transforms, which take more than a second.
        from prepkd.views.operations import apply_operations

        height, width = images.shape[-2:]
        sizes = {
            (name, negative): magnitude_of(name, strongest(name, height, width), self.magnitude, self.bins, negative)
            for name in NAMES
            for negative in (0, 1)
        }
        for drawn in parameters.cpu().view(len(images), self.ops, 2).unbind(dim=1):
            chosen = [(NAMES[operation], negative) for operation, negative in drawn.tolist()]
            images = apply_operations(images, [(name, sizes[name, negative]) for name, negative in chosen])
        return images


def strongest(operation: str, height: int, width: int) -> float:
    """The magnitude of the last bin; a translation's is a share of the image."""
    sides = {"translate-x": width, "translate-y": height}
    if operation in sides:
        return 150 / 331 * sides[operation]
    return {"shear-x": 0.3, "shear-y": 0.3, "rotate": 30.0, "posterize": 4.0}.get(operation, 0.9)

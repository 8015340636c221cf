"""TrivialAugment. Source: Müller and Hutter, arXiv 2103.10158."""

from torch import Tensor

from prepkd.views.augmentation import Augmentation
from prepkd.views.magnitudes import NAMES, magnitude_of

BINS = 31


class TrivialAugment(Augmentation):
    """One operation, drawn from 14, of a magnitude drawn from 31: TrivialAugment's wide space."""

    @property
    def ranges(self) -> tuple[int, ...]:
        """Operation, magnitude, sign (1: negative)."""
        return (len(NAMES), BINS, 2)

    def render(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Apply each row's operation with its magnitude and sign; uint8 (B, 1 or 3, H, W), integers (B, 3)."""
        # Imported here: it imports torchvision's transforms, which take more than a second.
        from prepkd.views.operations import apply_operations

        chosen = [
            (NAMES[operation], magnitude_of(NAMES[operation], strongest(NAMES[operation]), level, BINS, negative))
            for operation, level, negative in parameters.tolist()
        ]
        return apply_operations(images, chosen)


def strongest(operation: str) -> float:
    """The magnitude of the last bin in the wide space, for images of any size."""
    return {"translate-x": 32.0, "translate-y": 32.0, "rotate": 135.0, "posterize": 6.0}.get(operation, 0.99)

"""The base of the zoo's models: a forward pass whose stages have names."""

from typing import ClassVar

from torch import Tensor, nn


class Staged(nn.Module):
    """A classifier that gives its features by name, under the same names as every other model of the zoo.

    Names follow the lists of features in Tian et al.'s code (arXiv 1910.10699): `stem` is the map after the first
    convolution, `stage1`, `stage2`, ... are each stage's last map, `pooled` is the vector before the classifier.
    """

    FEATURES: ClassVar[tuple[str, ...]]

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """The features (B, C, H, W) or (B, C), named and ordered as in `FEATURES`, then `logits` (B, num_classes)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W)."""
        return self.outputs(x)["logits"]

    def named(self, *features: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Return `outputs`' dict; one feature per name in `FEATURES`, in their order."""
        return dict(zip(self.FEATURES, features, strict=True)) | {"logits": logits}

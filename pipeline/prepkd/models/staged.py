"""The base class of the zoo's models: a forward pass with named features."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Staged(nn.Module, ABC):
    """A classifier with named features; the names are the same for every model of the zoo.

    `stem` is the map after the first convolution, `stage1`, `stage2`, ... are the last maps of the stages, `pooled` is the
    vector before the classifier. They are the features of Tian et al.'s code (arXiv 1910.10699), in its order.
    """

    FEATURES: ClassVar[tuple[str, ...]]

    @abstractmethod
    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Features (B, C, H, W) or (B, C) under the names in `FEATURES`, in their order, then `logits` (B, num_classes)."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W)."""
        return self.outputs(x)["logits"]

    def named(self, *features: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Name features given in the order of `FEATURES`; raises ValueError for another number of them."""
        return dict(zip(self.FEATURES, features, strict=True)) | {"logits": logits}

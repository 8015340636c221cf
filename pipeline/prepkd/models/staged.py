"""The base class of the zoo's models: a forward pass with named features."""

from abc import ABC, abstractmethod
from typing import ClassVar, cast

from torch import Tensor, nn


class Staged(nn.Module, ABC):
    """A classifier with named features; the names are the same for every model of the zoo.

    `stem` is the map after the first convolution, `stage1`, `stage2`, ... are the last maps of the stages, `pooled` is the
    vector before the classifier. `stage1.pre`, ... are the maps before each stage's last activation, which methods on
    pre-activations read. They are the features of Tian et al.'s code (arXiv 1910.10699), in its order.
    """

    FEATURES: ClassVar[tuple[str, ...]]

    @abstractmethod
    def outputs(self, x: Tensor, pre: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Features (B, C, H, W) or (B, C) under the names in `FEATURES`, in their order, then `logits` (B, num_classes).

        With a list as `pre`, each stage's pre-activation is appended to it; all values are the same with and without.
        """

    @property
    def pre_names(self) -> tuple[str, ...]:
        """The names of the pre-activations, one per stage."""
        return tuple(f"{name}.pre" for name in self.FEATURES if name.startswith("stage"))

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        """The batch norm before each stage's last activation; empty for models whose activations have several or none."""
        return ()

    def all_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """The outputs and the pre-activations, by name."""
        pre: list[Tensor] = []
        return self.outputs(x, pre) | dict(zip(self.pre_names, pre, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W)."""
        return self.outputs(x)["logits"]

    def named(self, *features: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Name features given in the order of `FEATURES`; raises ValueError for another number of them."""
        return dict(zip(self.FEATURES, features, strict=True)) | {"logits": logits}


class Stage(nn.Sequential):
    """The blocks of a stage; with a list as `pre`, the last block appends its pre-activation to it."""

    def forward(self, x: Tensor, pre: list[Tensor] | None = None) -> Tensor:
        """The last block's output."""
        *others, last = self
        for block in others:
            x = block(x)
        return cast(Tensor, last(x, pre))


def tapped(pre: list[Tensor] | None, value: Tensor) -> Tensor:
    """Return the value, and append it to `pre` if that is a list."""
    if pre is not None:
        pre.append(value)
    return value

"""Views that mix two samples: what such a step's integers mean. The partner and its own view are integers as well."""

from abc import abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prepkd.views.steps import Augmentation

if TYPE_CHECKING:
    from torch import Tensor

QUANTILES = 1024  # of the weight's distribution
FRACTION = 2**16  # a place in the image, in parts of its height or width


class Mix(Augmentation):
    """A recipe's last step: the sample's picture and a partner's, each as the steps before it render them."""

    alpha: float = Field(gt=0, le=1e3)
    probability: float = Field(default=1.0, ge=0.001, le=1)

    @abstractmethod
    def shares(self, parameters: "Tensor", size: tuple[int, int]) -> "Tensor":
        """The sample's own share of the label, float32 (B,), for integers (B, p) and pictures of (height, width)."""

    @abstractmethod
    def blend(self, own: "Tensor", partner: "Tensor", parameters: "Tensor") -> "Tensor":
        """The mixed picture of float32 pixels (B, C, H, W) and integers (B, p)."""

    def weights(self, quantiles: "Tensor") -> "Tensor":
        """Quantiles, integers (B,), to the drawn weight of the sample itself, float32 (B,), a multiple of 2^-16."""
        import torch

        table = torch.from_numpy(beta_quantiles(self.alpha, self.probability)).to(quantiles.device)
        return table[quantiles.long()]


class Mixup(Mix):
    """lambda x_i + (1 - lambda) x_j, lambda from Beta(alpha, alpha). Source: Zhang et al., arXiv 1710.09412, equation 1."""

    alpha: float = Field(default=0.2, gt=0, le=1e3)

    @property
    def ranges(self) -> tuple[int, ...]:
        """The weight's quantile."""
        return (QUANTILES,)

    def shares(self, parameters: "Tensor", size: tuple[int, int]) -> "Tensor":
        """The weight itself, float32 (B,)."""
        return self.weights(parameters[:, 0])

    def blend(self, own: "Tensor", partner: "Tensor", parameters: "Tensor") -> "Tensor":
        """The weighted mean of the two pictures (B, C, H, W)."""
        share = self.weights(parameters[:, 0]).view(-1, 1, 1, 1)
        return partner * (1 - share) + own * share


class CutMix(Mix):
    """A box of the partner's picture, a share 1 - lambda of the area before it is clipped, pasted over the sample's.

    The label's shares are those of the pixels that are seen. Source: Yun et al., arXiv 1905.04899, equations 1 and 2.
    """

    alpha: float = Field(default=1.0, gt=0, le=1e3)

    @property
    def ranges(self) -> tuple[int, ...]:
        """The weight's quantile, and the box's centre: row and column in 1 / 65536 of the picture."""
        return (QUANTILES, FRACTION, FRACTION)

    def boxes(self, parameters: "Tensor", size: tuple[int, int]) -> tuple["Tensor", ...]:
        """Top, bottom, left, right, int64 (B,) each, for pictures of (height, width); empty where nothing is mixed."""
        half = 0.5 * (1 - self.weights(parameters[:, 0]).double()).sqrt()
        edges: list[Tensor] = []
        for place, length in zip(parameters[:, 1:].long().unbind(dim=1), size, strict=True):
            centre, reach = place * length // FRACTION, (half * length).long()
            edges += [(centre - reach).clamp(min=0), (centre + reach).clamp(max=length)]
        return tuple(edges)

    def shares(self, parameters: "Tensor", size: tuple[int, int]) -> "Tensor":
        """The share of the pixels outside the box, float32 (B,)."""
        top, bottom, left, right = self.boxes(parameters, size)
        return (1 - ((bottom - top) * (right - left)).double() / (size[0] * size[1])).float()

    def blend(self, own: "Tensor", partner: "Tensor", parameters: "Tensor") -> "Tensor":
        """The partner's pixels (B, C, H, W) within the box, the sample's own outside."""
        import torch

        height, width = own.shape[-2:]
        top, bottom, left, right = (edge.view(-1, 1, 1, 1) for edge in self.boxes(parameters, (height, width)))
        row = torch.arange(height, device=own.device).view(1, 1, -1, 1)
        column = torch.arange(width, device=own.device).view(1, 1, 1, -1)
        inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
        return torch.where(inside, partner, own)


@lru_cache
def beta_quantiles(alpha: float, probability: float) -> NDArray[np.float32]:
    """Beta(alpha, alpha) at the middles of as many quantiles as are mixed, 1 at the others; float32 (QUANTILES,).

    Rounded to multiples of 2^-16, so that it doesn't depend on the last digits of an inverse distribution function.
    """
    from scipy.special import betaincinv

    mixed = round(probability * QUANTILES)
    weights = np.ones(QUANTILES)
    weights[:mixed] = np.rint(betaincinv(alpha, alpha, (np.arange(mixed) + 0.5) / mixed) * FRACTION) / FRACTION
    return weights.astype(np.float32)

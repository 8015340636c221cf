"""CutMix. Source: Yun et al., arXiv 1905.04899."""

import torch
from pydantic import Field
from torch import Tensor

from prepkd.views.mix import QUANTILES, Mix

PLACES = 2**16  # a row or column, as a fraction of the picture's height or width


class CutMix(Mix):
    """A box of the partner's picture, a share 1 - lambda of the area before it is clipped, pasted over the sample's.

    The label's shares are those of the pixels that are seen. Source: Yun et al., arXiv 1905.04899, equations 1 and 2.
    """

    alpha: float = Field(default=1.0, gt=0, le=1e3)

    @property
    def ranges(self) -> tuple[int, ...]:
        """The weight's quantile, and the box's centre: row and column in 1 / 65536 of the picture."""
        return (QUANTILES, PLACES, PLACES)

    def boxes(self, parameters: Tensor, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Top, bottom, left, right, int64 (B,) each, for pictures of (height, width); empty if nothing is mixed."""
        half = 0.5 * (1 - self.weights(parameters[:, 0]).double()).sqrt()
        edges: list[Tensor] = []
        for place, length in zip(parameters[:, 1:].long().unbind(dim=1), size, strict=True):
            centre, reach = place * length // PLACES, (half * length).long()
            edges += [(centre - reach).clamp(min=0), (centre + reach).clamp(max=length)]
        return tuple(edges)

    def shares(self, parameters: Tensor, size: tuple[int, int]) -> Tensor:
        """The share of the pixels outside the box, float32 (B,)."""
        top, bottom, left, right = self.boxes(parameters, size)
        return (1 - ((bottom - top) * (right - left)).double() / (size[0] * size[1])).float()

    def blend(self, own: Tensor, partner: Tensor, parameters: Tensor) -> Tensor:
        """The partner's pixels (B, C, H, W) within the box, the sample's own outside."""
        height, width = own.shape[-2:]
        top, bottom, left, right = (edge.view(-1, 1, 1, 1) for edge in self.boxes(parameters, (height, width)))
        row = torch.arange(height, device=own.device).view(1, 1, -1, 1)
        column = torch.arange(width, device=own.device).view(1, 1, 1, -1)
        inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
        return torch.where(inside, partner, own)

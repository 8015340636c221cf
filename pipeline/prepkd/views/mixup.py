"""Mixup. Source: Zhang et al., arXiv 1710.09412."""

from pydantic import Field
from torch import Tensor

from prepkd.views.mix import QUANTILES, Mix


class Mixup(Mix):
    """lambda x_i + (1 - lambda) x_j, lambda from Beta(alpha, alpha). Source: Zhang et al., arXiv 1710.09412, equation 1."""

    alpha: float = Field(default=0.2, gt=0, le=1e3)

    @property
    def ranges(self) -> tuple[int, ...]:
        """The weight's quantile."""
        return (QUANTILES,)

    def shares(self, parameters: Tensor, size: tuple[int, int]) -> Tensor:
        """The weight itself, float32 (B,)."""
        return self.weights(parameters[:, 0])

    def blend(self, own: Tensor, partner: Tensor, parameters: Tensor) -> Tensor:
        """The weighted mean of the two pictures (B, C, H, W)."""
        share = self.weights(parameters[:, 0]).view(-1, 1, 1, 1)
        return partner * (1 - share) + own * share

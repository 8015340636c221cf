"""The interface of steps that mix two samples, and the distribution of their weights.

A row also holds the partner's index and the integers of the partner's view.
"""

from abc import abstractmethod
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from prepkd.views.augmentation import Step

QUANTILES = 1024  # of the weight's distribution
WEIGHT_STEPS = 2**16  # weights are multiples of 1 / WEIGHT_STEPS


class Mix(Step):
    """A recipe's last step, which mixes the pictures of a sample and a partner, both rendered by the steps before it."""

    alpha: float = Field(gt=0, le=1e3)
    probability: float = Field(default=1.0, ge=0.001, le=1)

    @abstractmethod
    def shares(self, parameters: Tensor, size: tuple[int, int]) -> Tensor:
        """The sample's own share of the label, float32 (B,), for integers (B, p) and pictures of (height, width)."""

    @abstractmethod
    def blend(self, own: Tensor, partner: Tensor, parameters: Tensor) -> Tensor:
        """Mix float32 pixels (B, C, H, W) of sample and partner by integers (B, p)."""

    def weights(self, quantiles: Tensor) -> Tensor:
        """The sample's own weight for quantiles, integers (B,); float32 (B,), multiples of 2^-16."""
        table = torch.from_numpy(beta_quantiles(self.alpha, self.probability)).to(quantiles.device)
        return table[quantiles.long()]


@lru_cache
def beta_quantiles(alpha: float, probability: float) -> NDArray[np.float32]:
    """Beta(alpha, alpha) at the middles of its quantiles for the share `probability` of the table, 1 for the rest.

    float32 (QUANTILES,), rounded to multiples of 2^-16, so that it doesn't depend on the last digits of an inverse
    distribution function.
    """
    # Imported here: it takes more than half a second, and only recipes that mix need it.
    from scipy.special import betaincinv

    mixed = round(probability * QUANTILES)
    weights = np.ones(QUANTILES)
    quantiles = betaincinv(alpha, alpha, (np.arange(mixed) + 0.5) / mixed)
    weights[:mixed] = np.rint(quantiles * WEIGHT_STEPS) / WEIGHT_STEPS
    return weights.astype(np.float32)

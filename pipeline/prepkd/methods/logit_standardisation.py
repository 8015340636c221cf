"""Logit standardisation: student and teacher are compared by their logits' z-scores."""

from torch import Tensor

from prepkd.errors import InputError
from prepkd.methods.kl import upcast
from prepkd.methods.term import Standardisation

MIN_STD = 1e-3  # standard deviation; a constant row (a zero-initialised head) has a finite gradient


def standardise(logits: Tensor) -> Tensor:
    """(x - mean) / s of each row (B, K), s the standard deviation over the classes, unbiased and at least 1e-3.

    K is at least 2. The gradient flows through mean and s. A row's scale and shift do not matter while s is above 1e-3.
    Source: Sun et al. 2024, arXiv 2403.01427; divided by K - 1 as in the authors' code.

    >>> import torch
    >>> standardise(torch.tensor([[1.0, 2.0, 3.0], [10.0, 30.0, 50.0]]))
    tensor([[-1.,  0.,  1.],
            [-1.,  0.,  1.]])
    """
    x = upcast(logits)
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().sum(dim=-1, keepdim=True) / (x.shape[-1] - 1)
    return centred * variance.clamp_min(MIN_STD**2).rsqrt()


class LogitStandardisation(Standardisation):
    """Standardise the logits of both sides over the classes, after the adjustment and before the temperature."""

    name = "ls"
    source = "Sun et al. 2024, arXiv 2403.01427"
    equation = "z(x) = (x - mean_k x) / s,  s^2 = sum_k (x_k - mean_k x)^2 / (K - 1),  for x = v and x = t"
    excludes = {
        "ka-lsr": "a smoothed row has two values, and standardised it is the same for every eps",
        "luminet": "luminet standardises the logits itself",
    }
    kd_weight = 9.0
    published_tau = 2.0

    def standardise(self, logits: Tensor) -> Tensor:
        """Standardised logits (B, K). Raises InputError for two classes."""
        if logits.shape[-1] < 3:
            raise InputError(
                f"method with ls and {logits.shape[-1]} classes; a row of two is always (0.71, -0.71) after it, and has no "
                "gradient; leave out ls"
            )
        return standardise(logits)

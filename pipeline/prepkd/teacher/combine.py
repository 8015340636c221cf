"""Several teachers as one: what KA and DTD then act on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prepkd.methods.kd import upcast


def combine(
    answers: Sequence[tuple[Tensor, Tensor]], mode: str, weights: Sequence[float], *, tau: float
) -> tuple[Tensor, Tensor]:
    """Teachers' offsets (N, K) and row maxima (N,) to those of their combination, float32, float64 where they are.

    `logits`: t = sum_m w_m t_m. `probabilities`: t = tau log sum_m w_m softmax(t_m / tau), whose softmax at `tau` is the
    weighted mean of the teachers' (Hinton et al., arXiv 1503.02531, section 2: arithmetic and geometric mean). The weights
    are scaled to a sum of one. Raises KeyError for another mode.
    """
    share = [weight / sum(weights) for weight in weights]
    raw = [upcast(offsets) + upcast(row_max).unsqueeze(-1) for offsets, row_max in answers]
    total = COMBINATIONS[mode](raw, share, tau)
    row_max = total.amax(dim=-1)
    return total - row_max.unsqueeze(-1), row_max


def _logits(raw: Sequence[Tensor], share: Sequence[float], tau: float) -> Tensor:
    return torch.stack([weight * logits for weight, logits in zip(share, raw, strict=True)]).sum(dim=0)


def _probabilities(raw: Sequence[Tensor], share: Sequence[float], tau: float) -> Tensor:
    logs = torch.stack([torch.log_softmax(logits / tau, dim=-1) for logits in raw])
    weights = logs.new_tensor(share).log().view(-1, 1, 1)
    return tau * (logs + weights).logsumexp(dim=0)


COMBINATIONS = {"logits": _logits, "probabilities": _probabilities}

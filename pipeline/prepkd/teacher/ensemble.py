"""Several teachers as one; KA and DTD act on the combined answer."""

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from prepkd.models.features import Answers
from prepkd.settings.section import Section, one_of
from prepkd.store.encodings import add_maximum
from prepkd.views.order import Views


class Ensemble:
    """Several teachers, whose answers `combine` makes one."""

    names = ("logits", "row_max")

    def __init__(
        self,
        members: Sequence[Callable[[Views], Answers]],
        mode: str,
        weights: Sequence[float],
        *,
        tau: float,
        depth: int,
    ) -> None:
        self.members, self.mode, self.weights, self.tau, self.prefetch_depth = members, mode, weights, tau, depth

    def __call__(self, views: Views) -> Answers:
        """The combined answers for every sample, in the order of samples."""
        return combine([member(views) for member in self.members], self.mode, self.weights, tau=self.tau)


def combine(answers: Sequence[Answers], mode: str, weights: Sequence[float], *, tau: float) -> dict[str, Tensor]:
    """Combine teachers' "logits" z - max(z) (N, K) and "row_max" (N,) into one teacher's, float32; float64 stays.

    `logits`: t = sum_m w_m t_m. `probabilities`: t = tau log sum_m w_m softmax(t_m / tau) + sum_m w_m tau logsumexp(t_m / tau),
    whose softmax at `tau` is the weighted mean of the teachers' (Hinton et al., arXiv 1503.02531, section 2: arithmetic and
    geometric mean). The second sum restores the logits' zero, on which FLSW depends: equal teachers give their own logits.
    The weights are scaled to a sum of one. Raises KeyError for another mode.
    """
    share = [weight / sum(weights) for weight in weights]
    raw = [add_maximum(one) for one in answers]
    total, zero = COMBINATIONS[mode](raw, share, tau)
    row_max = total.amax(dim=-1)
    return {"logits": total - row_max.unsqueeze(-1), "row_max": row_max + zero}


def _logits(raw: Sequence[Tensor], share: Sequence[float], tau: float) -> tuple[Tensor, float]:
    return _weighted_sum(raw, share), 0.0


def _probabilities(raw: Sequence[Tensor], share: Sequence[float], tau: float) -> tuple[Tensor, Tensor]:
    logs = torch.stack([torch.log_softmax(logits / tau, dim=-1) for logits in raw])
    weights = logs.new_tensor(share).log().view(-1, 1, 1)
    zero = _weighted_sum([tau * torch.logsumexp(logits / tau, dim=-1) for logits in raw], share)
    return tau * (logs + weights).logsumexp(dim=0), zero


def _weighted_sum(values: Sequence[Tensor], share: Sequence[float]) -> Tensor:
    return torch.stack([weight * value for weight, value in zip(share, values, strict=True)]).sum(dim=0)


# Each returns logits (N, K), and an offset (N,) that is added to all logits of a row.
COMBINATIONS: dict[str, Callable[[Sequence[Tensor], Sequence[float], float], tuple[Tensor, Tensor | float]]] = {
    "logits": _logits,
    "probabilities": _probabilities,
}


class EnsembleSettings(Section):
    """The rules by which the logits of several teachers are combined."""

    combine: Annotated[str, one_of(COMBINATIONS)] = "probabilities"
    weights: list[Annotated[float, Field(gt=0, le=1e6)]] | None = None

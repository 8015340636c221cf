"""Discrepancy between stored tensors of features and the live teacher's."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prepkd.store.encodings import Tensors
from prepkd.verification.discrepancy import TOLERANCES


@dataclass(frozen=True)
class FeatureReference:
    """The limits that the live teacher's tensors (N, ...) set, by name; nothing in it comes from the store that is judged.

    `scale` is the mean over rows of the largest |value|, float64 (); `bound` the largest error of the encoding, (N, numbers).
    """

    scale: Mapping[str, Tensor]
    bound: Mapping[str, Tensor]

    def rows(self, chosen: Tensor) -> "FeatureReference":
        """The limits of some rows, bool (N,)."""
        return FeatureReference(self.scale, {name: bound[chosen] for name, bound in self.bound.items()})


@dataclass(frozen=True)
class AllowedShare:
    """The limit of a discrepancy's `excess`."""

    excess: float


@dataclass(frozen=True)
class FeatureDiscrepancy:
    """Stored against live tensors over `rows` rows.

    `not_finite`: rows with a value, stored or live, that is not finite; `difference`: max |difference| over all tensors;
    `excess`: the largest part of it that the encoding does not explain, as a share of its tensor's scale; `worst`: that
    tensor; `within`: whether every value is finite and `excess` in the allowed limit.
    """

    rows: int
    not_finite: int
    difference: float
    excess: float
    worst: str
    allowed: AllowedShare
    within: bool

    @property
    def fault(self) -> str:
        """The difference of the stored values, in one phrase."""
        return (
            f"the live teacher's features are not the stored ones: {self.worst} differs by {self.excess:.3g} of its scale "
            f"beyond the encoding's error (allowed {self.allowed.excess:.3g})"
        )


def feature_reference(encoding: Tensors, live: Mapping[str, Tensor]) -> FeatureReference:
    """The limits set by live tensors (N, ...); a tensor that is not finite, or 0 everywhere, allows no difference."""
    flat = {name: values.flatten(1) for name, values in live.items()}
    scale = {name: values.double().abs().amax(dim=1).mean().nan_to_num(0, 0, 0) for name, values in flat.items()}
    return FeatureReference(
        scale, {name: encoding.largest_error(name, values).nan_to_num(0, 0, 0) for name, values in flat.items()}
    )


def measure_features(
    stored: Mapping[str, Tensor], live: Mapping[str, Tensor], reference: FeatureReference, arithmetic: str
) -> FeatureDiscrepancy:
    """Compare stored tensors (N, ...) with live ones, under the limits of a reference and of an arithmetic's rounding."""
    strange = torch.zeros(len(next(iter(live.values()))), dtype=torch.bool)
    difference, excess, worst = 0.0, -1.0, ""
    for name, values in live.items():
        ours, theirs = stored[name].double().flatten(1), values.double().flatten(1)
        strange |= ~(ours.isfinite() & theirs.isfinite()).all(dim=1)
        distance = (ours - theirs).abs().nan_to_num(torch.inf, torch.inf)
        beyond = (distance - reference.bound[name]).clamp(min=0).max()
        share = 0.0 if beyond == 0 else float(beyond / reference.scale[name])  # of a scale of 0: infinite
        difference = max(difference, float(distance.max()))
        if share > excess:
            excess, worst = share, name
    allowed, count = TOLERANCES[arithmetic].dz, int(strange.sum())
    return FeatureDiscrepancy(
        rows=len(strange),
        not_finite=count,
        difference=difference,
        excess=excess,
        worst=worst,
        allowed=AllowedShare(allowed),
        within=not count and excess <= allowed,
    )

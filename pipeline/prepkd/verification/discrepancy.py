"""Discrepancy between stored and live logits, and the tolerance of each arithmetic."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from prepkd.store.encodings import LogitEncoding
from prepkd.store.encodings.measure import added_divergence


@dataclass(frozen=True)
class Tolerance:
    """The largest discrepancy that rounding alone may cause.

    `dz`: |difference| as a share of the rows' mean largest |logit|; `kl`: mean KL at tau 4; `flips`: the share of rows with
    another maximum.
    """

    dz: float
    kl: float
    flips: float


# Measured rounding (docs/how-to/verify.md), with a margin for deeper networks and for two machines that both round: 100 times
# float32's error of a logit, 5 times that of TF32 and bf16, and so 25 times and more for KL, which grows with the square.
TOLERANCES = {
    "ieee": Tolerance(1e-4, 1e-7, 0.001),
    "tf32": Tolerance(1e-2, 1e-5, 0.01),
    "bf16": Tolerance(1e-1, 5e-4, 0.03),
}
TOLERANCES["unknown"] = TOLERANCES["bf16"]  # an imported store: its arithmetic is not recorded


@dataclass(frozen=True)
class Reference:
    """The limits that the live teacher's logits set for rows (N, K); nothing in it comes from the store that is judged.

    `largest` |logit| of a row, float64 (N,); `bound` on the encoding's error of each logit (N, K), infinite for a class
    that it drops; `kl` that the encoding adds at tau 4, float64 (N,); `labels`, and the `words` of an encoding that draws.
    """

    largest: Tensor
    bound: Tensor
    kl: Tensor
    labels: Tensor
    words: Tensor | None = None

    def rows(self, chosen: Tensor) -> "Reference":
        """The limits of some rows, bool (N,)."""
        words = None if self.words is None else self.words[chosen]
        return Reference(self.largest[chosen], self.bound[chosen], self.kl[chosen], self.labels[chosen], words)


@dataclass(frozen=True)
class Allowed:
    """The limits of a discrepancy's `excess` and `kl_4` (at most) and `top1` (at least)."""

    excess: float
    kl_4: float
    top1: float


@dataclass(frozen=True)
class Discrepancy:
    """Stored against live logits over `rows` rows.

    `not_finite`: rows with a value, stored or live, that is not finite; `dz`: max |difference| over the classes that the
    encoding keeps; `excess`: the part of it that the encoding's error does not explain; `kl_1`, `kl_4`: mean KL at tau 1 and
    4; `top1`: the share of rows with a common maximum; `within`: whether every value is finite and all are in the allowed
    limits.
    """

    rows: int
    not_finite: int
    dz: float
    excess: float
    kl_1: float
    kl_4: float
    top1: float
    allowed: Allowed
    within: bool

    @property
    def fault(self) -> str:
        """The difference of the stored logits, in one phrase."""
        found = (
            f"{words} {value if math.isfinite(value) else math.nan:.3g} (allowed {limit:.3g})"
            for words, value, limit in (
                ("|dz| beyond the encoding's error", self.excess, self.allowed.excess),
                ("KL at tau 4", self.kl_4, self.allowed.kl_4),
                ("top-1", self.top1, self.allowed.top1),
            )
        )
        return f"the live teacher's logits are not the stored ones: {', '.join(found)}"


def live_reference(encoding: LogitEncoding, raw: Tensor, labels: Tensor, words: Tensor | None = None) -> Reference:
    """The limits set by live raw logits (N, K), labels (N,) or shares (N, K); rows that are not finite allow nothing."""
    finite = raw.isfinite().all(dim=-1)
    largest, kl = raw.new_zeros(len(raw), dtype=torch.float64), raw.new_zeros(len(raw), dtype=torch.float64)
    bound = raw.new_zeros(raw.shape)
    if finite.any():
        live = raw[finite]
        encoded = encoding.encode(live, labels[finite], None if words is None else words[finite])
        largest[finite] = live.double().abs().amax(dim=-1)
        bound[finite] = encoding.largest_error(encoded)
        kl[finite] = added_divergence(live, encoding.decode(encoded)["logits"], 4)
    return Reference(largest, bound, kl, labels, words)


def measure_discrepancy(
    encoding: LogitEncoding, stored: dict[str, Tensor], raw: Tensor, reference: Reference, arithmetic: str
) -> Discrepancy:
    """Compare stored rows with live raw logits (N, K), under the limits of a reference and of an arithmetic's rounding."""
    answers = encoding.decode(stored)
    offsets, row_max = answers["logits"].double(), answers["row_max"].double()
    live, decoded = raw.double(), offsets + row_max.unsqueeze(-1)
    kept = encoding.largest_error(stored) < torch.inf
    difference = (decoded - live).abs()
    excess = (difference - _bound(reference, offsets))[kept].max().clamp(min=0)
    if not kept.all():  # of the classes that are left out, the encoding keeps the log-sum-exp
        tails = [values.masked_fill(kept, -torch.inf).logsumexp(dim=-1) for values in (decoded, live)]
        excess = torch.maximum(excess, (tails[0] - tails[1]).abs().max())
    if "lse" in stored:  # decoding does not need it, other readers may
        true = live.logsumexp(dim=-1) - live.amax(dim=-1)
        excess = torch.maximum(excess, (stored["lse"] - true).abs().max())
    usable = raw.isfinite().all(dim=-1)
    if encoding.draws and usable.any():
        few, rows = {name: array[usable] for name, array in stored.items()}, reference.rows(usable)
        excess = torch.maximum(excess, encoding.draw_error(few, raw[usable], rows.labels, rows.words).max())
    kl_1, kl_4 = (added_divergence(raw, offsets, tau).mean().clamp(min=0).item() for tau in (1, 4))
    common = int(((offsets == 0) & (live == live.amax(dim=-1, keepdim=True))).any(dim=-1).sum())
    tolerance, count = TOLERANCES[arithmetic], len(raw)
    allowed = Allowed(
        excess=tolerance.dz * reference.largest.mean().item(),
        # KL grows with the square of an error: two causes together give at most twice the sum of each alone.
        kl_4=2 * (tolerance.kl + reference.kl.mean().item()),
        top1=1 - math.ceil(tolerance.flips * count) / count,
    )
    strange = int((~(decoded.isfinite() & live.isfinite())).any(dim=-1).sum())
    # A value that is not finite fails its comparison only if it is NaN: infinities may be equal.
    within = not strange and excess.item() <= allowed.excess and kl_4 <= allowed.kl_4 and common / count >= allowed.top1
    return Discrepancy(
        rows=count,
        not_finite=strange,
        dz=difference[kept].max().item(),
        excess=excess.item(),
        kl_1=kl_1,
        kl_4=kl_4,
        top1=common / count,
        allowed=allowed,
        within=bool(within),
    )


def _bound(reference: Reference, offsets: Tensor) -> Tensor:
    """The bound on each logit's encoding error (N, K), for stored offsets (N, K).

    Rounding may change which class is the maximum, or which is the last one that is kept. For such a class the row's largest
    finite bound replaces the live row's own, 0 or infinite.
    """
    bound = reference.bound
    largest = bound.masked_fill(bound == torch.inf, 0).amax(dim=-1, keepdim=True)
    return torch.where((bound == torch.inf) | ((bound == 0) & (offsets < 0)), largest, bound)


def stricter(one: str, other: str) -> str:
    """The arithmetic with the smaller tolerance of two."""
    return min(one, other, key=lambda name: TOLERANCES[name].dz)

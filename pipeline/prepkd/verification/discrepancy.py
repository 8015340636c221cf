"""Discrepancy between stored and live logits, and the tolerance of each arithmetic."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from prepkd.store import LogitStore
from prepkd.store.encodings import Encoding
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


# Rounding as measured (docs/how-to/verify.md), with room for deeper networks and for two machines that both round: 100 times
# what float32 does, 5 times what TF32 and bf16 do to a logit, so 25 times and more to KL, which grows with the square.
TOLERANCES = {
    "ieee": Tolerance(1e-4, 1e-7, 0.001),
    "tf32": Tolerance(1e-2, 1e-5, 0.01),
    "bf16": Tolerance(1e-1, 5e-4, 0.03),
}
TOLERANCES["unknown"] = TOLERANCES["bf16"]  # an imported store: its arithmetic is not recorded


@dataclass(frozen=True)
class Allowed:
    """The limits of a discrepancy's `excess` and `kl_4` (at most) and `top1` (at least)."""

    excess: float
    kl_4: float
    top1: float


@dataclass(frozen=True)
class Discrepancy:
    """Stored against live logits over `rows` rows.

    `dz`: max |difference| over the classes that the encoding keeps; `excess`: the part of it that the encoding's error does
    not explain; `kl_1`, `kl_4`: mean KL at tau 1 and 4; `top1`: the share of rows with a common maximum; `within`: whether
    all of them are in the allowed limits.
    """

    rows: int
    dz: float
    excess: float
    kl_1: float
    kl_4: float
    top1: float
    allowed: Allowed
    within: bool


def encoding_divergence(encoding: Encoding, raw: Tensor, labels: Tensor) -> Tensor:
    """The KL at tau 4 that the encoding adds to raw logits (N, K), float64 (N,); labels (N,) or shares (N, K)."""
    return added_divergence(raw, encoding.decode(encoding.encode(raw, labels))["logits"], 4)


def measure_discrepancy(store: LogitStore, stored: dict[str, Tensor], raw: Tensor, encoding_kl: Tensor) -> Discrepancy:
    """Compare stored rows with live raw logits (N, K), given the KL (N,) that the encoding itself adds."""
    answers = store.encoding.decode(stored)
    offsets, row_max = answers["logits"].double(), answers["row_max"].double()
    live, decoded = raw.double(), offsets + row_max.unsqueeze(-1)
    bound = store.encoding.largest_error(stored)
    kept = bound < torch.inf
    difference = (decoded - live).abs()
    excess = (difference - bound)[kept].max().clamp(min=0)
    if not kept.all():  # of the classes that are left out, the encoding keeps the log-sum-exp
        tails = [values.masked_fill(kept, -torch.inf).logsumexp(dim=-1) for values in (decoded, live)]
        excess = torch.maximum(excess, (tails[0] - tails[1]).abs().max())
    if "lse" in stored:  # decoding does not need it, other readers may
        true = live.logsumexp(dim=-1) - live.amax(dim=-1)
        excess = torch.maximum(excess, (stored["lse"] - true).abs().max())
    kl_1, kl_4 = (added_divergence(raw, offsets, tau).mean().clamp(min=0).item() for tau in (1, 4))
    common = int(((offsets == 0) & (live == live.amax(dim=-1, keepdim=True))).any(dim=-1).sum())
    tolerance, count = TOLERANCES[store.attributes.precision.arithmetic], len(raw)
    allowed = Allowed(
        excess=tolerance.dz * decoded.abs().amax(dim=-1).mean().item(),
        # Divergences are squares: two causes together give at most twice the sum of each alone.
        kl_4=2 * (tolerance.kl + encoding_kl.mean().item()),
        top1=1 - math.ceil(tolerance.flips * count) / count,
    )
    within = excess.item() <= allowed.excess and kl_4 <= allowed.kl_4 and common / count >= allowed.top1
    return Discrepancy(
        count, difference[kept].max().item(), excess.item(), kl_1, kl_4, common / count, allowed, bool(within)
    )

"""Measure an encoding's size and error on real logits."""

from typing import Any

import numcodecs
import torch
from torch import Tensor

from prepkd.store.encodings.base import LogitEncoding

TAUS = (1, 2, 4, 8)
BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": numcodecs.Blosc.BITSHUFFLE}


def added_divergence(raw: Tensor, offsets: Tensor, tau: float) -> Tensor:
    """KL(softmax(raw / tau) || softmax(offsets / tau)) of each row (N,), in float64."""
    given = torch.log_softmax(raw.double() / tau, dim=-1)
    kept = torch.log_softmax(offsets.double() / tau, dim=-1)
    return (given.exp() * (given - kept)).sum(dim=-1)


def argmax_flips(raw: Tensor, offsets: Tensor) -> int:
    """Count the rows whose set of maxima changes in the round trip."""
    given, kept = (values == values.amax(dim=-1, keepdim=True) for values in (raw, offsets))
    return int((given != kept).any(dim=-1).sum())


def measure_encoding(
    encoding: LogitEncoding, raw: Tensor, labels: Tensor, words: Tensor | None = None, *, other_bytes: int = 0
) -> dict[str, Any]:
    """Bytes per row (`other_bytes` of other arrays included), KL at tau 1, 2, 4, 8 and argmax flips on raw logits (N, K)."""
    stored = encoding.encode(raw, labels, words)
    offsets = encoding.decode(stored)["logits"]
    size = 0.0
    for name, field in encoding.fields.items():
        if field.compressed:
            array = stored[name].cpu().numpy().astype(field.dtype)
            size += len(numcodecs.Blosc(**BLOSC).encode(array)) / len(raw)
        else:
            size += field.bytes_per_row
    divergence = {tau: added_divergence(raw, offsets, tau) for tau in TAUS}
    return {
        "rows": len(raw),
        "bytes_per_row": round(size + other_bytes, 1),
        "kl_mean": {str(tau): _significant(values.mean()) for tau, values in divergence.items()},
        "kl_max": {str(tau): _significant(values.max()) for tau, values in divergence.items()},
        "argmax_flips": argmax_flips(raw, offsets),
    }


def _significant(value: Tensor) -> float:
    # Rounding can leave -1e-17 if the two are equal.
    return float(f"{max(0.0, value.item()):.3g}")

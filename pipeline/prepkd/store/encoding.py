"""float16 offsets from each row's maximum: small, and with the teacher's exact argmax."""

import torch
from torch import Tensor

from prepkd.errors import InputError

SMALLEST_GAP = 2.0**-24  # float16's smallest subnormal
LARGEST_GAP = 65504.0  # float16's largest finite value


def encode(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Raw logits (N, K) to z - max(z) in float16 (N, K) and max(z) in float32 (N,).

    A gap that is not zero never rounds to zero, so argmax and ties are kept exactly. Raises InputError for a logit that is
    not finite and for a row whose range float16 cannot hold.
    """
    raw = logits.float()
    row_max = raw.amax(dim=-1)
    offsets = raw - row_max.unsqueeze(-1)
    # NaN and infinities fail this comparison too: one pass over the data, one number off the device.
    if not bool((offsets >= -LARGEST_GAP).all()):
        finite = bool(torch.isfinite(raw).all())
        found = f"a range of {-offsets.min().item():g} in one row" if finite else "a value that is not finite"
        raise InputError(
            f"teacher logits: expected finite values with a range up to {LARGEST_GAP:g}, found {found}; "
            "look at the teacher's weights and preprocessing"
        )
    half = offsets.half()
    return half.masked_fill((half == 0) & (offsets < 0), -SMALLEST_GAP), row_max


def decode(offsets: Tensor, row_max: Tensor) -> Tensor:
    """Raw logits in float32 (N, K) from what `encode` returned; take argmax on the offsets, not on this sum."""
    return offsets.float() + row_max.unsqueeze(-1)

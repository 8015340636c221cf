"""Are a model's answers logits? Probabilities are refused; values that leave a doubt get a warning."""

import math

import torch
from torch import Tensor

from prepkd.errors import InputError

ROWS = 1024  # enough rows to tell; a whole view of a large store would take seconds
ROUNDING = 2e-2  # of a row's sum and log-sum-exp: values may have been saved in half precision
LOGITS = "expected raw logits: the output of the last layer, without softmax, sigmoid or a cut to the top classes"


def check_logits(raw: Tensor, where: object, *, error: Tensor | float = 0.0) -> str | None:
    """Refuse probabilities and percentages in place of logits (N, K), and return a warning of one line for doubtful values.

    Refused if no value is negative and each row has a sum of at most 1, as a table of the top classes does, or of 100.
    Doubtful if no value is negative, or if most rows are probabilities, percentages or log-probabilities: the others may be
    missing rows that were filled. `error` bounds the rounding of values (N, K).
    Raises InputError that begins with `where`.
    """
    if raw.shape[-1] < 2:
        return None
    if are_log_probabilities(raw, error):
        return (
            f"{where}: every row's log-sum-exp is 0: log-probabilities, which methods that compare raw logits refuse "
            "(`prepkd methods` lists what each needs); other methods are not affected"
        )
    # All zeros, as from a zero-initialised classifier, are no distribution.
    if bool((raw < 0).any()) or not bool((raw > 0).any()):
        return _mostly(raw, where, error)
    sums = raw.sum(dim=-1, dtype=torch.float64)
    if bool((sums <= 1 + ROUNDING).all()):
        raise InputError(f"{where}: no value is negative and every row's sum is at most 1: probabilities; {LOGITS}")
    if bool(((sums / 100 - 1).abs() <= ROUNDING).all()):
        raise InputError(f"{where}: no value is negative and every row's sum is 100: percentages; {LOGITS}")
    return f"{where}: no value of {raw[..., 0].numel():,} rows is negative; {LOGITS}"


def _mostly(raw: Tensor, where: object, error: Tensor | float) -> str | None:
    """A warning with the share of rows that are distributions, if it is more than half."""
    sums = raw.sum(dim=-1, dtype=torch.float64)
    one = ((sums - 1).abs() <= ROUNDING) | ((sums / 100 - 1).abs() <= ROUNDING)
    rows = ((raw >= 0).all(dim=-1) & one) | _log_rows(raw, error)
    share = float(rows.double().mean())
    if share <= 0.5:
        return None
    return f"{where}: {share:.1%} of the rows are probabilities, percentages or log-probabilities; {LOGITS}"


def logits_problem(found: object, wanted: tuple[int, int]) -> str | None:
    """Describe why `found` is not finite logits of the shape `wanted`, (B, K); None if it is."""
    expected = f"expected logits, a float tensor of shape {wanted}"
    if not isinstance(found, Tensor):
        return f"{type(found).__name__}; {expected}"
    if tuple(found.shape) != wanted or not found.is_floating_point():
        kind = "" if found.is_floating_point() else f", {found.dtype}"
        return f"{type(found).__name__} of shape {tuple(found.shape)}{kind}; {expected}"
    if not bool(found.isfinite().all()):
        return f"{int((~found.isfinite()).sum())} of {found.numel()} values that are NaN or infinite; expected finite logits"
    return None


def are_probabilities(raw: Tensor) -> bool:
    """Whether every row (N, K) is non-negative and sums to 1, as the rows of a softmax do."""
    sums = raw.sum(dim=-1, dtype=torch.float64)
    return raw.shape[-1] > 1 and bool((raw >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all())


def are_log_probabilities(raw: Tensor, error: Tensor | float = 0.0) -> bool:
    """Whether each row (N, K) has the log-sum-exp 0, up to rounding and the `error` of its values; the offset is lost."""
    return raw.shape[-1] > 1 and bool(_log_rows(raw, error).all())


def _log_rows(raw: Tensor, error: Tensor | float) -> Tensor:
    bound = error if isinstance(error, Tensor) else torch.full_like(raw[..., :1], error)
    # Classes whose value was dropped have an infinite bound; the row's log-sum-exp is kept. bfloat16 rounds a value by up to
    # 2**-9 of its size; in a uniform row the size is log K, and all values are rounded by the same amount.
    allowed = ROUNDING + math.log(raw.shape[-1]) / 2**9 + bound.masked_fill(bound == torch.inf, 0).amax(dim=-1)
    return raw.logsumexp(dim=-1).abs() <= allowed

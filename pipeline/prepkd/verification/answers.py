"""Refuse answers that are not logits: probabilities, and log-probabilities where a method needs raw logits."""

import numpy as np
from torch import Tensor

from prepkd.errors import InputError
from prepkd.models.logit_checks import ROWS, are_log_probabilities, check_logits
from prepkd.store import LogitStore
from prepkd.store.encodings import add_maximum


def check_answers(store: LogitStore, view: int, *, raw: bool) -> None:
    """Refuse a store of probabilities and, if the method needs `raw` logits, one of log-probabilities; raises InputError."""
    chosen = np.arange(min(ROWS, store.samples))
    stored = store.rows(np.full(len(chosen), view), chosen)
    logits = add_maximum(store.encoding.decode(stored))
    refuse_answers(logits, store.url, raw=raw, error=store.encoding.largest_error(stored))


def refuse_answers(logits: Tensor, where: object, *, raw: bool, error: Tensor | float = 0.0) -> None:
    """Refuse probabilities and, if `raw` logits are needed, log-probabilities (N, K); raises InputError."""
    check_logits(logits, where, error=error)
    if raw and are_log_probabilities(logits, error):
        raise InputError(
            f"{where}: every row's log-sum-exp is 0: log-probabilities, which have lost the logits' zero; this method "
            "compares raw logits: choose another method, or a teacher without log_softmax"
        )

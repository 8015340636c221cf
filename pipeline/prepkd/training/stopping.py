"""When training is over, and which epoch's weights are kept. The test set is never asked."""

from collections.abc import Sequence

from prepkd.training.checkpoints import Row
from prepkd.training.settings import Training


def kept_epoch(settings: Training, history: Sequence[Row]) -> int:
    """The epoch whose weights are kept: the last, or with early stopping the first of the best by top-1 on val."""
    if settings.early_stop is None:
        return len(history) - 1
    scores = [row["val/top1"] for row in history]
    return scores.index(max(scores))


def is_over(settings: Training, history: Sequence[Row]) -> bool:
    """Whether all epochs are done, or `early_stop.patience` epochs since the best one."""
    if len(history) >= settings.epochs:
        return True
    if settings.early_stop is None or not history:
        return False
    return len(history) - 1 - kept_epoch(settings, history) >= settings.early_stop.patience


def card_entry(settings: Training, history: Sequence[Row]) -> dict[str, int]:
    """What a model's card says of early stopping: `kept_epoch`; nothing without it."""
    return {"kept_epoch": kept_epoch(settings, history)} if settings.early_stop and history else {}

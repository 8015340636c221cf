"""The end of training, the epochs that are evaluated, and the epoch whose weights are kept. The test set decides nothing."""

from collections.abc import Sequence
from math import inf

from prepkd.training.checkpoints import Row
from prepkd.training.settings import Training


def kept_epoch(settings: Training, history: Sequence[Row]) -> int:
    """The epoch whose weights are kept: the last, or with early stopping the first of the best by top-1 on val."""
    if settings.early_stop is None:
        return len(history) - 1
    scores = [row.get("val/top1", -inf) for row in history]  # none if a logit is not finite
    return scores.index(max(scores))


def is_over(settings: Training, history: Sequence[Row]) -> bool:
    """Whether all epochs are done, or `early_stop.patience` epochs since the best one."""
    if len(history) >= settings.epochs:
        return True
    if settings.early_stop is None or not history:
        return False
    return len(history) - 1 - kept_epoch(settings, history) >= settings.early_stop.patience


def evaluates(settings: Training, epoch: int) -> bool:
    """Whether the model is evaluated after an epoch: every `evaluate_every` epochs, and always after the last."""
    return (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs


def card_entry(settings: Training, history: Sequence[Row]) -> dict[str, int]:
    """`kept_epoch` for a model's card, with early stopping; else nothing."""
    return {"kept_epoch": kept_epoch(settings, history)} if settings.early_stop and history else {}

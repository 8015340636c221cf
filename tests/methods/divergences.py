"""Helpers shared by the tests of the divergences: examples, and the objective of a method on raw logits."""

import math
from collections.abc import Sequence

import torch
from naive_losses import Row, distillation_loss, log_softmax
from prepkd.distillation.student_settings import Distill
from torch import Tensor

LABELS = torch.tensor([0, 5, 2, 2, 4])
NO_WARMUP = {name: {"warmup_epochs": 0} for name in ("dkd", "rld", "luminet")}


def logits(seed: int, samples: int = 5, classes: int = 6) -> Tensor:
    return 3 * torch.randn(samples, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def settings(method: str, **changes: object) -> Distill:
    """Return the method's settings, without warm-up and with `auto` weights."""
    wanted = {"teacher": "t", "student": "convnet4", "epochs": 1, "method": method}
    return Distill.model_validate(wanted | NO_WARMUP | changes)


def of_objective(
    method: str, student: Tensor, teacher: Tensor, labels: Tensor = LABELS, **changes: object
) -> dict[str, Tensor]:
    """Return the objective's values; the raw teacher logits are passed as offsets and row maxima, as in a store."""
    row_max = teacher.amax(1)
    return distillation_loss(settings(method, **changes), student, labels, teacher - row_max.unsqueeze(1), row_max)


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss.sum(), of)
    return found


def kl_of(log_p: Sequence[float], log_q: Sequence[float]) -> float:
    return math.fsum(math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True))


def log_rest(row: Row, label: int, tau: float) -> float:
    """Return the logarithm of the summed probabilities of all classes except `label`."""
    log_p = log_softmax(row, tau)
    return math.log(math.fsum(math.exp(a) for k, a in enumerate(log_p) if k != label))

"""How weights are stepped: the optimiser, and the learning rate of every step."""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, OneCycleLR

from prepkd.params import Training

# The arguments are the optimiser, the settings, and the steps of an epoch.
SCHEDULES: dict[str, Callable[[Optimizer, Training, int], LRScheduler]] = {
    "multi-step": lambda o, s, steps: MultiStepLR(o, [m * steps for m in s.milestones], s.lr_decay),
    "cosine": lambda o, s, steps: CosineAnnealingLR(o, s.epochs * steps),
    "one-cycle": lambda o, s, steps: OneCycleLR(o, s.lr, total_steps=s.epochs * steps),
}


def make_optimizer(model: nn.Module, settings: Training) -> Optimizer:
    """The optimiser of all of a model's parameters."""
    return torch.optim.SGD(
        model.parameters(),
        settings.lr,
        settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
        fused=True,
    )


def make_schedule(optimizer: Optimizer, settings: Training, steps: int) -> LRScheduler:
    """The learning rate of every step, for epochs of `steps` steps."""
    return SCHEDULES[settings.schedule](optimizer, settings, steps)

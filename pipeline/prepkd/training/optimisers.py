"""How weights are stepped: the optimiser, the learning rate of every step, the average of the weights."""

from collections.abc import Callable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from prepkd.training.settings import Training

OPTIMIZERS: dict[str, Callable[[nn.Module, Training], Optimizer]] = {
    "sgd": lambda model, s: SGD(
        model.parameters(), s.lr, s.momentum, weight_decay=s.weight_decay, nesterov=s.nesterov, fused=True
    ),
    "adamw": lambda model, s: AdamW(
        model.parameters(),
        s.lr,
        betas=(s.adamw.betas[0], s.adamw.betas[1]),
        eps=s.adamw.eps,
        weight_decay=s.weight_decay,
        fused=True,
    ),
}

# The arguments are the optimiser, the settings, the steps of an epoch, and those of the warm-up that comes before.
SCHEDULES: dict[str, Callable[[Optimizer, Training, int, int], LRScheduler]] = {
    "multi-step": lambda o, s, steps, warmup: MultiStepLR(o, [m * steps - warmup for m in s.milestones], s.lr_decay),
    "cosine": lambda o, s, steps, warmup: CosineAnnealingLR(o, s.epochs * steps - warmup),
    "one-cycle": lambda o, s, steps, _: OneCycleLR(o, s.lr, total_steps=s.epochs * steps),
}


def make_schedule(optimizer: Optimizer, settings: Training, steps: int) -> LRScheduler:
    """The learning rate of every step, for epochs of `steps` steps.

    Warm-up of w steps: lr (t + 1) / w in step t < w. Milestones count from the first epoch, warm-up included; the cosine
    falls from the warm-up's end to the last step.
    """
    warmup = round(settings.warmup_epochs * steps)
    schedule = SCHEDULES[settings.schedule](optimizer, settings, steps, warmup)
    if not warmup:
        return schedule
    return SequentialLR(optimizer, [LambdaLR(optimizer, lambda t: (t + 1) / warmup), schedule], [warmup])


def make_average(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a model's weights: the first step's, then decay * average + (1 - decay) * weights.

    Batch norm's statistics are averaged as well: those of the last step would not fit the averaged weights.
    """
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)

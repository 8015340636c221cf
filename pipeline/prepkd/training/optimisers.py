"""Optimisers, learning-rate schedules and the average of the weights, beside the settings that they read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from pydantic import Field
from torch import nn, optim
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from prepkd.settings.section import Section


class AdamW(Section):
    """AdamW's own settings."""

    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = Field(
        default=[0.9, 0.999], description="decay of the averages of the gradient and of its square"
    )
    eps: float = Field(default=1e-8, gt=0, description="added to the root of the second")


class Optimisation(Section):
    """The settings of optimisers and schedules."""

    epochs: int = Field(ge=1)
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    adamw: AdamW = AdamW()
    weight_decay: float = Field(default=5e-4, ge=0)
    warmup_epochs: float = Field(default=0.0, ge=0)
    milestones: list[Annotated[int, Field(ge=1)]] = []
    lr_decay: float = Field(default=0.1, gt=0, lt=1)


M = TypeVar("M", bound=Callable[..., object])


@dataclass(frozen=True)
class Choice(Generic[M]):
    """An optimiser or a schedule: its constructor, and the settings that only some of its kind read."""

    make: M
    reads: frozenset[str] = frozenset()


OPTIMIZERS: dict[str, Choice[Callable[[nn.Module, Optimisation], Optimizer]]] = {
    "sgd": Choice(
        lambda model, s: optim.SGD(
            model.parameters(), s.lr, s.momentum, weight_decay=s.weight_decay, nesterov=s.nesterov, fused=True
        ),
        reads=frozenset({"momentum", "nesterov"}),
    ),
    "adamw": Choice(
        lambda model, s: optim.AdamW(
            model.parameters(),
            s.lr,
            betas=(s.adamw.betas[0], s.adamw.betas[1]),
            eps=s.adamw.eps,
            weight_decay=s.weight_decay,
            fused=True,
        ),
        reads=frozenset({"adamw"}),
    ),
}

# The arguments are the optimiser, the settings, the steps per epoch, and the steps of the warm-up before.
SCHEDULES: dict[str, Choice[Callable[[Optimizer, Optimisation, int, int], LRScheduler]]] = {
    "multi-step": Choice(
        lambda o, s, steps, warmup: MultiStepLR(o, [m * steps - warmup for m in s.milestones], s.lr_decay),
        reads=frozenset({"milestones", "lr_decay", "warmup_epochs"}),
    ),
    "cosine": Choice(
        lambda o, s, steps, warmup: CosineAnnealingLR(o, s.epochs * steps - warmup),
        reads=frozenset({"warmup_epochs"}),
    ),
    "one-cycle": Choice(  # torch would move the momentum (AdamW: the first beta) between 0.85 and 0.95 in spite of the setting
        lambda o, s, steps, _: OneCycleLR(o, s.lr, total_steps=s.epochs * steps, cycle_momentum=False)
    ),
}


def unread(choices: Mapping[str, Choice[M]], name: str) -> frozenset[str]:
    """The settings that other entries of `choices` read and `name` does not."""
    return frozenset(key for choice in choices.values() for key in choice.reads) - choices[name].reads


def make_optimizer(name: str, model: nn.Module, settings: Optimisation) -> Optimizer:
    """Make the optimiser of all parameters of a model; `name` is a key of `OPTIMIZERS`."""
    return OPTIMIZERS[name].make(model, settings)


def make_schedule(name: str, optimizer: Optimizer, settings: Optimisation, steps: int) -> LRScheduler:
    """Make the learning-rate schedule, one value per step, for epochs of `steps` steps; `name` is a key of `SCHEDULES`.

    Warm-up of w steps: lr (t + 1) / w in step t < w. Milestones count from the first epoch, warm-up included; the cosine
    falls from the warm-up's end to the last step. Rounded to whole steps, the warm-up leaves the last one to the schedule.
    """
    warmup = min(round(settings.warmup_epochs * steps), settings.epochs * steps - 1)
    schedule = SCHEDULES[name].make(optimizer, settings, steps, warmup)
    if not warmup:
        return schedule
    return SequentialLR(optimizer, [LambdaLR(optimizer, lambda t: (t + 1) / warmup), schedule], [warmup])


def make_average(model: nn.Module, decay: float) -> AveragedModel:
    """Make the exponential moving average of a model's weights: the first step's, then decay * average + (1 - decay) * weights.

    Batch norm's statistics are averaged as well: those of the last step would not fit the averaged weights.
    """
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)

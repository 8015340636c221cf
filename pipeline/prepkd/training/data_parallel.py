"""Gradients of a batch shared by several processes: each runs the model on its part, all compute the whole batch's loss."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from prepkd.errors import InputError
from prepkd.models.features import Answers
from prepkd.runtime import distributed
from prepkd.runtime.streams import Purpose, torch_seed
from prepkd.runtime.torch_state import fork_rng
from prepkd.training.batch_norm import synchronise
from prepkd.training.compilation import SampleValues
from prepkd.training.settings import Training

T = TypeVar("T")


def gather_answers(found: Answers, samples: int) -> Answers:
    """Gather the answers (B, ...) to a batch of `samples` from each process's share of it; a no-op with one process."""
    lengths = [part.stop - part.start for part in distributed.rank_slices(samples)]
    return {name: distributed.all_gather(answers, lengths) for name, answers in found.items()}


def wrap_ddp(
    forward: Callable[..., SampleValues], student: nn.Module, objective: nn.Module, settings: Training
) -> Callable[..., SampleValues]:
    """Wrap a forward pass so that its backward pass gives every process the gradients of the whole batch.

    Raises InputError for `compile: true`, and as `synchronise` does.
    """
    if settings.compile is True:
        raise InputError(
            f"compile is true and {distributed.world_size()} processes train together, which compile nothing; set compile: auto"
        )
    if settings.batch_norm == "synchronised":
        synchronise(student)
    # A static graph may have parameters that get no gradient.
    step = _Step(forward, [*student.parameters(), *objective.parameters()])
    return DistributedDataParallel(step, static_graph=True)


class _Step(nn.Module):
    """A forward pass as a module of the parameters that it trains, for DistributedDataParallel.

    It has no buffers, which DistributedDataParallel would broadcast before every step: the processes keep them equal themselves.
    """

    def __init__(self, forward: Callable[..., SampleValues], parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.run, self.trained = forward, nn.ParameterList(parameters)

    def forward(self, *inputs: Tensor) -> SampleValues:
        return self.run(*inputs)


class PerProcessRandom:
    """Calls a model with this process's own random draws (dropout), a function of torch's seed, the step and the rank.

    The global random state of torch, from which an objective draws, stays the same in all processes.
    """

    def __init__(self) -> None:
        self.seed, self.step = torch.initial_seed(), -1

    def __call__(self, model: Callable[[Tensor], T], pixels: Tensor) -> T:
        """The model's answers."""
        seed = torch.initial_seed()  # another one in each epoch
        self.step = self.step + 1 if seed == self.seed else 0
        self.seed = seed
        stream = Purpose.PROCESS_DROPOUT.stream(self.step * distributed.world_size() + distributed.rank())
        with fork_rng(pixels.device):
            torch.manual_seed(torch_seed(seed, stream))
            return model(pixels)

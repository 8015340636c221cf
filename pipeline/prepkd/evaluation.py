"""How good a model is: its logits on held-out data, and its top-1 there, computed while it trains on."""

import copy
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor, nn

from prepkd.resume import Row
from prepkd.samples import Samples

# Pixels of a plane that a CPU answers at once: what a layer makes of them stays in its cache. Twice as fast as 16 times as many.
CPU_PIXELS = 2**15
ANSWERED_AT_ONCE = 16, 512  # samples, at least and at most
# What copying a model, or a copy that misses part of itself, stumbles over.
FAULTS = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@torch.inference_mode()
def predict(model: nn.Module, samples: Samples, batch_size: int | None = None) -> Tensor:
    """The model's logits in float32 (N, K), in evaluation mode, for samples as they are."""
    model.eval()
    size = batch_size or _batch_size(samples)
    pixels = (samples.plain(slice(start, start + size)) for start in range(0, len(samples), size))
    return torch.cat([model(part.contiguous(memory_format=torch.channels_last)).float() for part in pixels])


def _batch_size(samples: Samples) -> int:
    least, most = ANSWERED_AT_ONCE
    if samples.device.type == "cuda" or not len(samples):
        return most
    height, width = samples.plain(slice(0, 1)).shape[-2:]
    return min(most, max(least, CPU_PIXELS // (height * width)))


def top1(logits: Tensor, labels: Tensor) -> float:
    """The share of samples whose largest logit is the label's."""
    return (logits.argmax(dim=-1) == labels).float().mean().item()


class Evaluation:
    """A model's top-1 on held-out data, asked for after every epoch.

    Where a processor is idle while the model trains, a copy of it is evaluated there; else the model itself, at once.
    """

    def __init__(self, model: nn.Module, held_out: Mapping[str, Samples], device: torch.device) -> None:
        self.model, self.held_out, self.pool = model, held_out, ThreadPoolExecutor(1)
        self.names = {f"{name}/top1" for name in held_out}
        idle = device.type == "cpu" and torch.get_num_threads() < (os.cpu_count() or 1)
        self.spare = spare_of(model, held_out) if idle else None

    def __call__(self) -> "Future[Row]":
        """`NAME/top1` of each held-out part, of the model as it is now, whatever becomes of it before the result is there."""
        if self.spare:
            self.spare.load_state_dict(self.model.state_dict())
            return self.pool.submit(self._row, self.spare)
        done: Future[Row] = Future()
        done.set_result(self._row(self.model))
        return done

    def _row(self, model: nn.Module) -> Row:
        return {f"{name}/top1": top1(predict(model, part), part.labels) for name, part in self.held_out.items()}


def spare_of(model: nn.Module, held_out: Mapping[str, Samples]) -> nn.Module | None:
    """A copy that answers as the model does; None where there is none to be had.

    Somebody's own model may keep a tensor of its last forward pass, which can't be copied, or hooks that write into the
    model that they were made for.
    """
    try:
        spare = copy.deepcopy(model)
    except FAULTS:
        return None
    pixels = [samples.plain(slice(0, 2)) for samples in held_out.values()]
    with torch.inference_mode():
        expected = [model.eval()(some) for some in pixels]
        try:
            found = [spare.eval()(some) for some in pixels]
        except FAULTS:
            return None
    return spare if all(map(torch.equal, expected, found)) else None

"""How good a model is: its logits on held-out data, and its top-1 there, computed while it trains on."""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import torch
from torch import Tensor, nn

from prepkd.data.samples.samples import Samples
from prepkd.runtime.processors import compute_on, idle_processors
from prepkd.training.checkpoints import Row

# Pixels of a plane that a CPU answers at once: what a layer makes of them stays in its cache. Twice as fast as 16 times as many.
CPU_PIXELS = 2**15
ANSWERED_AT_ONCE = 16, 512  # samples, at least and at most
# Whose modules keep all that changes in their state dict, so that a copy can stand in for them.
KNOWN = ("torch.nn.", "torchvision.models.", "prepkd.models.")


@torch.inference_mode()
def predict(
    model: nn.Module, samples: Samples, batch_size: int | None = None, *, stopped: Callable[[], bool] = lambda: False
) -> Tensor:
    """The model's logits in float32 (N, K), in evaluation mode, for samples as they are; raises CancelledError once stopped."""
    model.eval()
    size = batch_size or _batch_size(samples)

    def answers() -> Iterator[Tensor]:
        for start in range(0, len(samples), size):
            if stopped():
                raise CancelledError
            pixels = samples.plain(slice(start, start + size))
            yield model(pixels.contiguous(memory_format=torch.channels_last)).float()

    return torch.cat(list(answers()))


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

    Where as many processors are idle as the model trains on, a copy of it is evaluated there; else the model itself, at once.
    """

    def __init__(self, model: nn.Module, held_out: Mapping[str, Samples], device: torch.device) -> None:
        self.model, self.held_out = model, held_out
        self.names = {f"{name}/top1" for name in held_out}
        self.stopped = threading.Event()
        threads = torch.get_num_threads()  # there as here: with another number the last bits may differ
        idle = device.type == "cpu" and idle_processors() >= threads
        self.spare = copy.deepcopy(model) if idle and is_known(model) else None
        self.pool = ThreadPoolExecutor(1, initializer=compute_on, initargs=(threads,))

    def __call__(self) -> "Future[Row]":
        """`NAME/top1` of each held-out part, of the model as it is now, whatever becomes of it before the result is there."""
        if self.spare:
            self.spare.load_state_dict(self.model.state_dict())
            return self.pool.submit(self._row, self.spare)
        done: Future[Row] = Future()
        done.set_result(self._row(self.model))
        return done

    def stop(self) -> None:
        """Leave what is under way: nobody waits for it any more, and the process would at its end."""
        self.stopped.set()
        self.pool.shutdown(wait=False)

    def _row(self, model: nn.Module) -> Row:
        return {
            f"{name}/top1": top1(predict(model, part, stopped=self.stopped.is_set), part.labels)
            for name, part in self.held_out.items()
        }


def is_known(model: nn.Module) -> bool:
    """Whether a copy with a model's state dict is the model: its modules are known, and none has hooks or a forward of its own.

    Somebody's own modules may keep state elsewhere, or reach back to the model that they were made for.
    """
    return all(
        type(module).__module__.startswith(KNOWN)
        and "forward" not in vars(module)
        and not (module._forward_hooks or module._forward_pre_hooks)
        for module in model.modules()
    )

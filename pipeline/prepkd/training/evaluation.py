"""A model's logits and top-1 on held-out data."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from prepkd.data.samples.samples import Samples
from prepkd.runtime import distributed
from prepkd.runtime.torch_state import arithmetic
from prepkd.training.checkpoints import Row

# height x width x batch on a CPU: a layer's output fits the cache; twice as fast as 2**19.
CPU_PIXELS = 2**15
BATCH_LIMITS = 16, 512  # samples per batch, at least and at most


@torch.inference_mode()
def predict(model: nn.Module, samples: Samples, batch_size: int | None = None) -> Tensor:
    """Return the model's logits float32 (N, K), in evaluation mode, for unaugmented samples."""
    size = batch_size or _batch_size(samples)
    return _answers(model, samples, (slice(start, start + size) for start in range(0, len(samples), size)))


@torch.inference_mode()
def predict_together(model: nn.Module, samples: Samples) -> Tensor:
    """Compute `predict` with all processes, a share of the samples each; every process returns all logits."""
    size, parts = _batch_size(samples), distributed.rank_slices(len(samples))
    own = parts[distributed.rank()]
    asked = [slice(start, min(start + size, own.stop)) for start in range(own.start, own.stop, size)]
    return distributed.all_gather(_answers(model, samples, asked or [own]), [part.stop - part.start for part in parts])


@torch.inference_mode()
def predict_some(model: nn.Module, samples: Samples, chosen: Tensor) -> Tensor:
    """Return the model's logits float32 (B, K), in evaluation mode, for chosen unaugmented samples, int64 (B,)."""
    size = _batch_size(samples)
    return _answers(model, samples, (chosen[start : start + size] for start in range(0, len(chosen), size)))


def _answers(model: nn.Module, samples: Samples, parts: Iterable[slice | Tensor]) -> Tensor:
    model.eval()
    shown = (samples.evaluation_pixels(part).contiguous(memory_format=torch.channels_last) for part in parts)
    with arithmetic("ieee", samples.device):
        return torch.cat([model(pixels).float() for pixels in shown])


def _batch_size(samples: Samples) -> int:
    if samples.device.type == "cuda" or not len(samples):
        return BATCH_LIMITS[1]
    height, width = samples.evaluation_pixels(slice(0, 1)).shape[-2:]
    return batch_size((height, width), samples.device)


def batch_size(size: tuple[int, int], device: torch.device) -> int:
    """Return the batch size of evaluation, for images of `size` (height, width)."""
    least, most = BATCH_LIMITS
    return most if device.type == "cuda" else min(most, max(least, CPU_PIXELS // (size[0] * size[1])))


def top1(logits: Tensor, labels: Tensor) -> float:
    """The share of samples whose largest logit is the label's."""
    return (logits.argmax(dim=-1) == labels).float().mean().item()


def evaluate(model: nn.Module, held_out: Mapping[str, Samples]) -> Row:
    """Return `NAME/top1` per held-out split, computed by all processes together; it is left out if a logit is not finite."""
    answers = {name: predict_together(model, samples) for name, samples in held_out.items()}
    return {
        f"{name}/top1": top1(logits, held_out[name].labels)
        for name, logits in answers.items()
        if logits.isfinite().all()
    }

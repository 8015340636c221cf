"""Check that an exported model gives the student's logits on the whole test set."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from prepkd.data.images.encoded import EncodedImages
from prepkd.data.prepared.file import Split
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.training.evaluation import batch_size, top1
from prepkd.views.framing import Framing

CPU = torch.device("cpu")
# Relative to the largest logit: another order of float32 sums changes it by about 1e-6, a wrong operation by far more.
TOLERANCE = 1e-3
Answer = Callable[[Tensor], Tensor]  # float images in [0, 1] (N, C, H, W) to logits (N, K)


@dataclass(frozen=True)
class Agreement:
    """The largest difference of logits, the share of equal predictions, and the top-1 on the test set."""

    max_difference: float
    agreement: float
    top1: float


def samples_of(split: Split, framing: Framing) -> Samples:
    """A split on the CPU, framed as in the model's evaluation; raises InputError if the framing does not fit the images."""
    labels = torch.from_numpy(split.labels)
    side = framing.height if framing == Framing.centred(framing.height) else None
    if isinstance(split.images, EncodedImages):
        if side is None:
            raise InputError(f"the model was evaluated at {framing.size}, the data's images have several sizes")
        return Samples(split.images, labels, side)
    samples = Samples(torch.from_numpy(split.images).permute(0, 3, 1, 2).contiguous(), labels, side)
    if samples.size != framing.size:
        raise InputError(f"the model was evaluated at {framing.size}, the data's images are {samples.size}")
    return samples


@torch.inference_mode()
def answers(answer: Answer, samples: Samples, chosen: Tensor | None = None) -> Tensor:
    """Logits float32 (N, K) of all samples, or of `chosen` int64 (N,), with the batch size of `prepkd evaluate`."""
    rows = torch.arange(len(samples)) if chosen is None else chosen
    size = batch_size(samples.size, CPU)
    parts = (samples.evaluation_pixels(rows[start : start + size]) for start in range(0, len(rows), size))
    return torch.cat([answer(pixels.contiguous(memory_format=torch.channels_last)).float() for pixels in parts])


def compare(logits: Tensor, student: Tensor, labels: Tensor) -> Agreement:
    """Compare logits (N, K) with the student's, for labels int64 (N,); raises InputError if they are not finite."""
    if not logits.isfinite().all():
        raise InputError("logits of the test images are not finite; expected a trained model's; nothing was exported")
    same = (logits.argmax(dim=-1) == student.argmax(dim=-1)).double().mean().item()
    return Agreement((logits - student).abs().max().item(), same, top1(logits, labels))


def refuse_differing(name: str, found: Agreement, student: Tensor) -> None:
    """Raise InputError if the logits of a float32 format differ from the student's."""
    most = TOLERANCE * max(1.0, student.abs().max().item())
    if found.max_difference > most:
        raise InputError(
            f"{name}: its logits differ from the student's by up to {found.max_difference:.3g} on the test set; expected at "
            f"most {most:.3g}; nothing was exported"
        )

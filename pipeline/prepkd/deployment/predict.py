"""Predict classes and probabilities of image files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from prepkd.data.images.threads import threaded
from prepkd.deployment.classifier import HINT, load
from prepkd.deployment.images import MODES, read_image
from prepkd.errors import InputError
from prepkd.runtime.processors import compute_on
from prepkd.runtime.torch_state import arithmetic
from prepkd.training.evaluation import batch_size
from prepkd.views.framing import Framing


class Model(Protocol):
    """The interface shared by `Classifier` and `OnnxClassifier`."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""

    @property
    def framing(self) -> Framing:
        """The size of the images."""

    @property
    def channels(self) -> int:
        """The number of channels of an image."""

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images uint8 (N, C, H, W)."""


@dataclass(frozen=True)
class Prediction:
    """An image file, and its classes with their probabilities, the largest first; `logits` (K,)."""

    image: Path
    classes: tuple[tuple[str, float], ...]
    logits: Tensor

    def as_json(self) -> dict[str, Any]:
        """The image, its class with its probability, and the top classes."""
        first, probability = self.classes[0]
        top = [{"class": name, "probability": share} for name, share in self.classes]
        return {"image": str(self.image), "class": first, "probability": probability, "top": top}


def open_model(path: Path, device: torch.device, *, trust_factory: bool = False) -> Model:
    """Open the folder of a student or teacher, an exported folder, or an ONNX file of `prepkd export`; raises InputError."""
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        from prepkd.deployment.onnx_file import OnnxClassifier  # late: its packages are optional

        return OnnxClassifier.open(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; {HINT}, or one of its .onnx files")
    return load(path, device=device, trust_factory=trust_factory)


def predict_images(
    model: Model, images: Iterable[Path | InputError], device: torch.device, *, top: int
) -> Iterator[Prediction | InputError]:
    """Predict image files in order; a file that can't be read is yielded as an InputError.

    The batch size is that of `prepkd evaluate`, so that equal images give equal logits. Raises InputError for a model of other
    channels than 1 or 3, and for logits that are not finite.
    """
    if model.channels not in MODES:
        raise InputError(f"the model takes images of {model.channels} channels; image files have 1 or 3")
    remaining, size = iter(images), batch_size(model.framing.size, device)
    while group := list(islice(remaining, size)):
        yield from _answered(model, group, device, top)


def _answered(
    model: Model, group: list[Path | InputError], device: torch.device, top: int
) -> Iterator[Prediction | InputError]:
    def attempt(named: Path | InputError) -> Tensor | InputError:
        if isinstance(named, InputError):
            return named
        try:
            return read_image(named, model.framing, model.channels)
        except InputError as error:
            return error

    read = list(threaded(attempt, group, initializer=compute_on))
    images = [one for one in read if isinstance(one, Tensor)]
    answers = iter(_ask(model, images, device) if images else ())
    for path, one in zip(group, read, strict=True):
        if isinstance(path, InputError) or isinstance(one, InputError):
            yield one if isinstance(one, InputError) else InputError(str(path))
        else:
            yield _prediction(path, next(answers), model.class_names, top)


@torch.inference_mode()
def _ask(model: Model, images: list[Tensor], device: torch.device) -> Tensor:
    # Channels last in memory, as in evaluation: sums in another order differ in their last bits. `contiguous` would not
    # change images of one channel.
    shown = torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
    with arithmetic("ieee", device):
        return model(shown.to(device)).float().cpu()


def _prediction(path: Path, logits: Tensor, names: tuple[str, ...], top: int) -> Prediction:
    if not logits.isfinite().all():
        raise InputError(f"{path}: the model's logits are not finite; expected a trained model's weights")
    shares, order = logits.double().softmax(dim=-1).sort(descending=True, stable=True)
    chosen = zip(order[:top].tolist(), shares[:top].tolist(), strict=True)
    return Prediction(path, tuple((names[index], share) for index, share in chosen), logits)

"""A trained model as a module that takes images, loaded from a student's, a teacher's or an exported folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from prepkd.errors import InputError, refuse_differences
from prepkd.models.checkpoint import load_card, load_checkpoint
from prepkd.models.names import is_factory
from prepkd.models.normalised import Normalised
from prepkd.models.settings import OwnPreprocessing
from prepkd.settings.validation import validated
from prepkd.views.framing import Framing

HINT = "expected the folder of a student (models/student/seed0), of a teacher, or of `prepkd export`"
REMEDY = "train the model again, or save it anew with `prepkd.save`"


class Classifier(nn.Module):
    """A model with its preprocessing: images uint8, or float in [0, 1], (N, C, H, W) of any size to logits (N, K).

    `class_names` are in the order of the logits. Images of another size than `framing.size`, at which the model was evaluated,
    are resized and cropped. Raises InputError for images of another dtype or number of channels, and without pixels.
    """

    model: Normalised
    class_names: tuple[str, ...]
    framing: Framing
    card: dict[str, Any]

    def __init__(
        self, model: Normalised, class_names: tuple[str, ...], framing: Framing, card: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.model = model
        self.class_names = class_names
        self.framing = framing
        self.card = dict(card)

    @property
    def channels(self) -> int:
        """The number of channels of an image."""
        return int(self.model.mean.shape[1])

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        return cast(Tensor, self.model(self.pixels(images)))

    def pixels(self, images: Tensor) -> Tensor:
        """The model's input: float pixels in [0, 1] of the size at which it was evaluated."""
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise InputError(f"images are {images.dtype}; expected uint8, or float in [0, 1]")
        if images.ndim != 4 or 0 in images.shape[1:]:
            raise InputError(f"images have shape {tuple(images.shape)}; expected (N, {self.channels}, H, W)")
        # A graph that is being exported has no values to check.
        if images.is_floating_point() and images.numel() and not torch.compiler.is_compiling():
            low, high = images.aminmax()
            if high > 1 or low < 0:
                raise InputError(
                    f"float images have values from {low.item():g} to {high.item():g}; expected [0, 1]: the model normalises "
                    "them itself"
                )
        if images.shape[-2:] != self.framing.size:
            # Imported here: it imports torchvision's transforms, which take more than a second.
            from prepkd.views.centre_crop import framed

            images = framed(images, self.framing)
            if images.is_floating_point():
                images = images.clamp(0, 1)  # the weights of the resizing have a sum that differs from 1 by rounding
        pixels = images.to(self.model.mean.dtype)
        return pixels if images.is_floating_point() else pixels / 255


def load(folder: str | Path, *, device: torch.device | str = "cpu", trust_factory: bool = False) -> Classifier:
    """Load a student's, a teacher's or an exported folder as a `Classifier` in evaluation mode.

    A model `package.module:factory` is imported code that the folder chooses, hence `trust_factory`. Raises InputError for a
    folder that is missing, damaged, or of another kind.

    >>> prepkd.load("models/student/seed0")(images).softmax(-1)  # doctest: +SKIP
    """
    folder = Path(folder)
    card = load_card(folder, HINT)
    if is_factory(card["model"]) and not trust_factory:
        raise InputError(
            f"{folder}: its model is {card['model']!r}, code that would be imported; if you trust it, load with "
            "trust_factory=True, or --trust-factory"
        )
    validated(OwnPreprocessing, card["preprocessing"], f"{folder}: preprocessing")
    names, framing = _described(folder, card)
    model, _ = load_checkpoint(folder, device, hint=HINT)
    return Classifier(model, names, framing, card).eval()


def _described(folder: Path, card: Mapping[str, Any]) -> tuple[tuple[str, ...], Framing]:
    """The class names and the framing that a card states; raises InputError."""
    names, evaluation = card.get("class_names"), card.get("evaluation")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder}: class_names is {names!r:.60}; expected a list of names; {REMEDY}")
    refuse_differences({"the number of class_names": (len(names), card["num_classes"])}, folder, HINT)
    if not isinstance(evaluation, dict):
        raise InputError(f"{folder}: evaluation is {evaluation!r:.60}; expected height, width and resize; {REMEDY}")
    return tuple(names), validated(Framing, evaluation, f"{folder}: evaluation")

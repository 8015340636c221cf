"""A trained model as a module that takes images, loaded from a student's, a teacher's or an exported folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from prepkd.data.prepared.file import DataInfo, describe
from prepkd.errors import InputError, refuse_differences
from prepkd.models.checkpoint import load_card, load_checkpoint
from prepkd.models.names import is_factory
from prepkd.models.normalised import Normalised
from prepkd.models.settings import OwnPreprocessing
from prepkd.settings.validation import validated
from prepkd.views.framing import Framing

HINT = "expected the folder of a student (models/student/seed0), of a teacher, or of `prepkd export`"


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
        if images.shape[-2:] != self.framing.size:
            # Imported here: it imports torchvision's transforms, which take more than a second.
            from prepkd.views.centre_crop import framed

            images = framed(images, self.framing)
        if images.is_floating_point():
            # A graph that is being exported has no values to check.
            if not torch.compiler.is_compiling() and images.numel() and (images.max() > 1 or images.min() < 0):
                low, high = images.aminmax()
                raise InputError(
                    f"float images have values from {low.item():g} to {high.item():g}; expected [0, 1]: the model normalises "
                    "them itself"
                )
            return images.to(self.model.mean.dtype)
        return images.to(self.model.mean.dtype) / 255


def load(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    data: str | Path | None = None,
    trust_factory: bool = False,
) -> Classifier:
    """Load a student's, a teacher's or an exported folder as a `Classifier` in evaluation mode.

    If the folder's card, from an earlier version, lacks class names or image size, they are read from the prepared file `data`,
    by default the one that the card names. A model `package.module:factory` is imported code that the folder chooses, hence
    `trust_factory`. Raises InputError for a folder that is missing, damaged, or of another kind.

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
    names, framing = _described(folder, card, Path(data) if data else None)
    model, _ = load_checkpoint(folder, device, hint=HINT)
    return Classifier(model, names, framing, card).eval()


def _described(folder: Path, card: Mapping[str, Any], data: Path | None) -> tuple[tuple[str, ...], Framing]:
    """The class names and the framing of a card, or of the prepared data if the card lacks them; raises InputError."""
    names, evaluation = card.get("class_names"), card.get("evaluation")
    if names is None or evaluation is None:
        info = _trained_on(folder, card, data)
        names = list(info.class_names) if names is None else names
        evaluation = _framing(folder, info) if evaluation is None else evaluation
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder}: class_names is {str(names)[:60]!r}; expected a list of names")
    refuse_differences({"the number of class_names": (len(names), card["num_classes"])}, folder, HINT)
    if not isinstance(evaluation, dict):
        raise InputError(f"{folder}: evaluation is {str(evaluation)[:60]!r}; expected height, width and resize")
    return tuple(names), validated(Framing, evaluation, f"{folder}: evaluation")


def _trained_on(folder: Path, card: Mapping[str, Any], data: Path | None) -> DataInfo:
    """The prepared data that a model was trained on; raises InputError if the file is missing or holds other data."""
    inputs = card["inputs"] if isinstance(card.get("inputs"), dict) else {}
    named = data or (Path(inputs["data"]) if isinstance(inputs.get("data"), str) else None)
    lacking = f"{folder}: its card, of an earlier version, has no class names or no image size"
    if named is None or not named.is_file():
        raise InputError(f"{lacking}; name the prepared data (--data data/NAME.h5), or train it again")
    info = describe(named)
    found = {"dataset_fingerprint": (inputs.get("dataset_fingerprint"), info.fingerprint)}
    refuse_differences(found, folder, f"{named} is not what it was trained on; name that file")
    return info


def _framing(folder: Path, info: DataInfo) -> dict[str, Any]:
    if info.encoded or info.image_shape is None:
        raise InputError(
            f"{folder}: its card, of an earlier version, has no image size, and the data's images have several; "
            "run `prepkd distill` or `prepkd train-teacher` again"
        )
    return {"height": info.image_shape[0], "width": info.image_shape[1]}

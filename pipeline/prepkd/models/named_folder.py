"""A folder with a model from any training loop: a checkpoint of prepkd, or a file of weights and the model's name."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models.build import build_model
from prepkd.models.checkpoint import load_card, load_checkpoint
from prepkd.models.names import architecture, is_factory
from prepkd.models.normalised import Normalised
from prepkd.models.settings import ModelName, OwnPreprocessing
from prepkd.models.weight_claims import CARD, MAX_CARD_BYTES
from prepkd.models.weight_files import WEIGHTS
from prepkd.models.weights import load_weights
from prepkd.runtime.files import file_sha256, fingerprint, read_object
from prepkd.settings.section import Section
from prepkd.settings.validation import validated

HINT = f'expected {WEIGHTS}, and {CARD} with the model\'s name: {{"model": "convnet8"}}; or save it with `prepkd.save`'


class NameCard(Section):
    """A card written by hand. Without `preprocessing` the model takes the pixels in [0, 1] as they are."""

    model: ModelName
    preprocessing: OwnPreprocessing | None = None
    class_names: Annotated[list[str], Field(min_length=1)] | None = None


def load_named(
    folder: Path, num_classes: int, in_channels: int, trusted: Collection[str] = ()
) -> tuple[Normalised, dict[str, Any]]:
    """Load a model in eval mode on the CPU, and its card; no code in a file is run, and torch's random state stays as it was.

    A card without `format` is one written by hand (`NameCard`); it may be in the parent folder, for all seeds. Raises InputError
    for files that are missing, damaged or do not fit the model, and for a `package.module:factory`, whose code would be
    imported, unless it is among the `trusted` names.
    """
    card, place = _card(folder)
    if is_factory(str(card.get("model"))) and card["model"] not in trusted:
        raise InputError(
            f"{place}: its model is {card['model']!r}, code that would be imported; if you trust it, name it in params.yaml, "
            "e.g. in compare.students"
        )
    if "format" in card:
        load_card(folder, HINT)  # checks the checksum before the card's content is used
        validated(OwnPreprocessing, card["preprocessing"], f"{folder}: preprocessing")
        return load_checkpoint(folder, hint=HINT)
    named = validated(NameCard, card, str(place))
    own = named.preprocessing
    if own is not None and len(own.mean) != in_channels:
        raise InputError(f"{place}: preprocessing has {len(own.mean)} channels; the data's images have {in_channels}")
    how = (
        Preprocessing(tuple(own.mean), tuple(own.std), own.size, own.interpolation)
        if own
        else Preprocessing((0.0,) * in_channels, (1.0,) * in_channels)
    )
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder / WEIGHTS}: no such file; {HINT}")
    with torch.random.fork_rng(devices=[]):
        body = build_model(architecture(named.model), num_classes, in_channels=in_channels)
    load_weights(body, folder / WEIGHTS)
    described = {"model": named.model, "num_classes": num_classes, "in_channels": in_channels}
    names = {"class_names": named.class_names} if named.class_names else {}
    return Normalised(body, how).eval(), described | names


def _card(folder: Path) -> tuple[dict[str, Any], Path]:
    """Return the unchecked card and its path."""
    place = next((path for path in (folder / CARD, folder.parent / CARD) if path.is_file()), None)
    if place is None:
        raise InputError(f"{folder / CARD}: no such file; {HINT}")
    try:
        return read_object(place, MAX_CARD_BYTES), place
    except ValueError as error:
        raise InputError(f"{place}: {error}; {HINT}") from None


def files_fingerprint(folder: Path) -> str:
    """Return the SHA-256 of a folder's card and weights as stored; raises InputError if either is missing."""
    _, place = _card(folder)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder / WEIGHTS}: no such file; {HINT}")
    return fingerprint({name: file_sha256(path) for name, path in (("card", place), ("weights", folder / WEIGHTS))})

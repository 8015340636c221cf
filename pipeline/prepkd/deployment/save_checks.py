"""The checks of `prepkd.save`: its arguments, the given model, the target folder."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import nn
from torch.optim.swa_utils import AveragedModel

from prepkd.errors import InputError
from prepkd.models.settings import ModelName
from prepkd.models.weight_claims import CARD, MAX_CARD_BYTES
from prepkd.runtime.files import read_object
from prepkd.settings.section import Section, Seed

WRAPPERS = nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel
MAX_SIDE = 2**16 * 7 // 8  # the shorter side is resized to 8/7 of it

Lax = Field(strict=False)  # also accepts tuples and NumPy's numbers
Channels = Annotated[list[Annotated[float, Lax]], Field(min_length=1, strict=False)]


class SaveArguments(Section):
    """The arguments of `prepkd.save` that are no files and no model."""

    name: ModelName
    mean: Channels | None
    std: Annotated[list[Annotated[float, Field(gt=0, strict=False)]], Field(min_length=1, strict=False)] | None
    size: Annotated[int, Field(ge=1, le=MAX_SIDE)] | None
    seed: Seed | None


def bare(model: object, where: str) -> nn.Module:
    """Unwrap a model from torch.compile, DataParallel and AveragedModel; raises InputError unless it is a module."""
    while isinstance(model, WRAPPERS) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, WRAPPERS) else model._orig_mod
    if not isinstance(model, nn.Module):
        raise InputError(f"{where}: the model is of type {type(model).__name__}; expected a torch.nn.Module")
    return model


def refuse_trained(folder: Path) -> None:
    """Raise InputError if a folder holds a model that prepkd trained, or a card that cannot be read."""
    path = folder / CARD
    if not path.is_file():
        return
    try:
        card = read_object(path, MAX_CARD_BYTES)
    except ValueError as error:
        raise InputError(f"{path}: {error}; remove it, or save to another folder") from None
    if "training" in card:
        raise InputError(f"{folder}: holds a model that prepkd trained; save to another folder, or remove it")

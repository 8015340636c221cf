"""Save a model from any training loop in the format of prepkd's own students."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from prepkd.data.prepared.file import DataInfo, describe
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.deployment.save_checks import SaveArguments, bare, refuse_trained
from prepkd.errors import InputError
from prepkd.models.build import build_model
from prepkd.models.checkpoint import JSON, save_checkpoint
from prepkd.models.names import architecture
from prepkd.models.normalised import Normalised
from prepkd.models.weight_sets import WRAPPERS
from prepkd.models.weights import load_strictly, refuse_not_finite
from prepkd.settings.validation import validated
from prepkd.views.framing import Framing


def save(
    folder: str | Path,
    model: nn.Module,
    name: str,
    data: str | Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    seed: int | None = None,
) -> None:
    """Save a model of any training loop as a folder that `prepkd.load`, `predict`, `export` and `compare --add` take.

    `name` is the model's name for `prepkd.build_model`, `data` the prepared file that it was trained on. `mean` and `std` are
    the per-channel values with which the loop normalised pixels in [0, 1]; None: not normalised. `size` is the side of evaluated
    images, needed if the data's images differ in size. A model is unwrapped from torch.compile, DataParallel and AveragedModel.
    Raises InputError, before anything is written, for weights that do not fit this model or are not finite, for other channels,
    wrong arguments, and a folder of a model that prepkd trained.

    >>> prepkd.save("students/mine/seed0", student, "convnet8", "data/digits.h5", seed=0)  # doctest: +SKIP
    """
    where = f"{folder}: prepkd.save"
    given = validated(SaveArguments, {"name": name, "mean": mean, "std": std, "size": size, "seed": seed}, where)
    refuse_trained(Path(folder))
    info = describe(Path(data))
    channels = _channels(info)
    body, how = bare(model, where), Preprocessing((0.0,) * channels, (1.0,) * channels)
    if isinstance(body, Normalised):
        how, body = body.preprocessing, bare(body.body, where)
    if given.mean or given.std:
        how = Preprocessing(tuple(given.mean or (0.0,) * channels), tuple(given.std or (1.0,) * channels))
    if len(how.mean) != channels:
        raise InputError(f"{where}: mean and std have {len(how.mean)} channels; the images of {data} have {channels}")
    state = {WRAPPERS.sub("", key): value for key, value in body.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        own = build_model(architecture(name), len(info.class_names), in_channels=channels)
    load_strictly(own, state, where=f"{folder}: the model that was given, as {name!r}")
    refuse_not_finite(state, where=f"{folder}: the model that was given")
    card: dict[str, JSON] = {
        "model": name,
        "num_classes": len(info.class_names),
        "class_names": list(info.class_names),
        "in_channels": channels,
        "evaluation": _framing(info, size, Path(data)).model_dump(),
        "inputs": {"dataset": info.dataset, "data": str(data), "dataset_fingerprint": info.fingerprint},
    }
    save_checkpoint(Path(folder), Normalised(own, how), card if seed is None else card | {"seed": seed})


def _channels(info: DataInfo) -> int:
    if info.image_shape is not None:
        return info.image_shape[2]
    assert info.statistics is not None  # of encoded images, which have no common shape
    return len(info.statistics.mean)


def _framing(info: DataInfo, size: int | None, data: Path) -> Framing:
    if size is not None:
        return Framing.centred(size)
    if info.image_shape is None:
        raise InputError(f"{data}: its images differ in size; give `size`, the side at which the model is evaluated")
    return Framing(height=info.image_shape[0], width=info.image_shape[1])

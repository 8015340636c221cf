"""Save a model that any training loop made, as prepkd saves its students."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from prepkd.data.prepared.file import DataInfo, describe
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models.build import build_model
from prepkd.models.checkpoint import JSON, save_checkpoint
from prepkd.models.names import architecture
from prepkd.models.normalised import Normalised
from prepkd.models.weights import check_strictly
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

    `name` is the model's for `prepkd.build_model`, `data` the prepared file that it was trained on. `mean` and `std` are the
    channels' that the loop subtracted from pixels in [0, 1] and divided by; None: it gave the model those pixels. `size` is the
    side of evaluated images, needed where the data's images differ in size. Raises InputError for weights that are not of this
    model, and for other channels.

    >>> prepkd.save("students/mine/seed0", student, "convnet8", "data/digits.h5", seed=0)  # doctest: +SKIP
    """
    info = describe(Path(data))
    channels = _channels(info)
    body, how = model, Preprocessing((0.0,) * channels, (1.0,) * channels)
    if isinstance(model, Normalised):
        body, how = model.body, model.preprocessing
    if mean is not None or std is not None:
        how = Preprocessing(tuple(mean or (0.0,) * channels), tuple(std or (1.0,) * channels))
    with torch.random.fork_rng(devices=[]):
        expected = build_model(architecture(name), len(info.class_names), in_channels=channels)
    check_strictly(expected, body.state_dict(), where=f"{folder}: the model that was given, as {name!r}")
    card: dict[str, JSON] = {
        "model": name,
        "num_classes": len(info.class_names),
        "class_names": list(info.class_names),
        "in_channels": channels,
        "evaluation": _framing(info, size, Path(data)).model_dump(),
        "inputs": {"dataset": info.dataset, "data": str(data), "dataset_fingerprint": info.fingerprint},
    }
    save_checkpoint(Path(folder), Normalised(body, how), card if seed is None else card | {"seed": seed})


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

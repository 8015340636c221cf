"""A fresh model for a data set."""

import torch
from torch import Tensor

from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models.build import build_model
from prepkd.models.library import pretrained
from prepkd.models.names import is_factory
from prepkd.models.normalised import Normalised


def new_model(name: str, dataset: Dataset, seed: int, preprocessing: Preprocessing | None = None) -> Normalised:
    """A model on the dataset's device, freshly initialised (the same for the same name and seed) or as its name asks.

    It preprocesses as it is told to, else as its pretrained weights expect, else by the statistics of the training images.
    """
    given = preprocessing or ((known := pretrained(name)) and known.preprocessing) or dataset.preprocessing
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = build_model(name, dataset.classes, in_channels=dataset.samples.channels)
        model = Normalised(body, given).to(dataset.samples.device)
        if is_factory(name):
            _check_logits(name, model, dataset)
    return model


def _check_logits(name: str, model: Normalised, dataset: Dataset) -> None:
    """Ask somebody's own model for two images' logits before any work is done; raises InputError where they are none.

    A teacher is a function of one image: in evaluation mode its logits may not depend on what else is in the batch.
    """
    pixels = dataset.samples.pixels(dataset.plan, *dataset.samples.under(dataset.plan, 0, slice(0, 2)))
    with torch.no_grad():
        both, first = model.eval()(pixels), model(pixels[:1])
    model.train()
    found = f"{type(both).__name__} of shape {tuple(both.shape)}" if isinstance(both, Tensor) else type(both).__name__
    wanted = (len(pixels), dataset.classes)
    if not isinstance(both, Tensor) or both.shape != wanted or not both.is_floating_point():
        raise InputError(f"model {name!r}: forward returned {found}; expected logits, a float tensor of shape {wanted}")
    if not torch.allclose(both[:1], first, rtol=1e-2, atol=1e-2 * float(both.std()), equal_nan=True):
        raise InputError(
            f"model {name!r}: an image's logits change with what else is in the batch, in evaluation mode too; "
            "expected a function of one image"
        )

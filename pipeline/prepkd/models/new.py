"""A new model for a dataset."""

import torch

from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models.build import build_model, pretrained
from prepkd.models.logit_checks import LOGITS, are_probabilities, logits_problem
from prepkd.models.names import architecture, is_factory
from prepkd.models.normalised import Normalised
from prepkd.models.user_errors import wrap_user_errors
from prepkd.runtime.torch_state import fork_rng


def new_model(name: str, dataset: Dataset, seed: int, preprocessing: Preprocessing | None = None) -> Normalised:
    """Build a model on the dataset's device: freshly initialised from `seed`, or with the pretrained weights in its name.

    Preprocessing, by precedence: argument, pretrained weights, training statistics. torch's random state stays as it was, on
    the CPU and on the dataset's device. Raises InputError as `build_model` does, and for a user's own model that returns no
    logits.
    """
    given = preprocessing or ((known := pretrained(name)) and known.preprocessing) or dataset.preprocessing
    with fork_rng(dataset.samples.device):
        torch.manual_seed(seed)
        body = build_model(name, dataset.classes, in_channels=dataset.samples.channels)
        model = Normalised(body, given).to(dataset.samples.device)
        if is_factory(name):
            _check_logits(name, model, dataset)
    return model


def untrained_model(name: str, dataset: Dataset, preprocessing: Preprocessing | None = None) -> Normalised:
    """Build a model of the name's architecture, to try it or to get its shapes, without downloading pretrained weights.

    Their preprocessing is kept unless another one is given. Raises InputError as `new_model` does.
    """
    known = pretrained(name)
    return new_model(architecture(name), dataset, 0, preprocessing or (known.preprocessing if known else None))


def _check_logits(name: str, model: Normalised, dataset: Dataset) -> None:
    """Run a user's own model on two images before any other work; raises InputError if the result is not logits, or
    probabilities.

    A teacher is a function of one image: in evaluation mode its logits may not depend on the rest of the batch.
    """
    pixels = dataset.samples.evaluation_pixels(slice(0, 2))
    answers, forward = [], f"model {name!r}: forward"
    for count in (len(pixels), 1):  # a `squeeze` in the model would drop the batch dimension of one image
        images = "two images" if count > 1 else "one image"
        with torch.no_grad(), wrap_user_errors(forward, f"failed for {images} {tuple(pixels.shape[1:])}:"):
            answers.append(model.eval()(pixels[:count]))
        if problem := logits_problem(answers[-1], (count, dataset.classes)):
            raise InputError(f"{forward} returned {problem}, for {images}")
    model.train()
    both, first = answers
    if are_probabilities(both):
        raise InputError(f"model {name!r}: forward returned probabilities; {LOGITS}")
    if not torch.allclose(both[:1], first, rtol=1e-2, atol=1e-2 * float(both.std())):
        raise InputError(
            f"model {name!r}: an image's logits depend on the rest of the batch, even in evaluation mode; "
            "expected a function of one image"
        )

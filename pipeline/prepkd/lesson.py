"""What every model that is trained on the same data shares."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prepkd.errors import InputError
from prepkd.model_names import is_factory
from prepkd.models import Normalised, Preprocessing, build_model, pretrained
from prepkd.samples import Samples
from prepkd.views import ViewPlan


@dataclass(frozen=True)
class Lesson:
    """What all seeds and methods share: data, views, preprocessing, class count."""

    samples: Samples
    held_out: Mapping[str, Samples]
    plan: ViewPlan
    preprocessing: Preprocessing
    classes: int

    def labels(self, view: int, part: slice) -> Tensor:
        """The labels of some samples under one view: int64 (B,), or a share of each class (B, K) where views mix samples."""
        return self.samples.targets(self.plan, *self.samples.under(self.plan, view, part), self.classes)


def new_model(name: str, lesson: Lesson, seed: int, preprocessing: Preprocessing | None = None) -> Normalised:
    """A model on the lesson's device, freshly initialised (the same for the same name and seed) or as its name asks.

    It preprocesses as it is told to, else as its pretrained weights expect, else by the statistics of the training images.
    """
    given = preprocessing or ((known := pretrained(name)) and known.preprocessing) or lesson.preprocessing
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = build_model(name, lesson.classes, in_channels=lesson.samples.channels)
        model = Normalised(body, given).to(lesson.samples.device)
        if is_factory(name):
            _check_logits(name, model, lesson)
    return model


def _check_logits(name: str, model: Normalised, lesson: Lesson) -> None:
    """Ask somebody's own model for two images' logits before any work is done; raises InputError where they are none.

    A teacher is a function of one image: in evaluation mode its logits may not depend on what else is in the batch.
    """
    pixels = lesson.samples.pixels(lesson.plan, *lesson.samples.under(lesson.plan, 0, slice(0, 2)))
    with torch.no_grad():
        both, first = model.eval()(pixels), model(pixels[:1])
    model.train()
    found = f"{type(both).__name__} of shape {tuple(both.shape)}" if isinstance(both, Tensor) else type(both).__name__
    wanted = (len(pixels), lesson.classes)
    if not isinstance(both, Tensor) or both.shape != wanted or not both.is_floating_point():
        raise InputError(f"model {name!r}: forward returned {found}; expected logits, a float tensor of shape {wanted}")
    if not torch.allclose(both[:1], first, rtol=1e-2, atol=1e-2 * float(both.std()), equal_nan=True):
        raise InputError(
            f"model {name!r}: an image's logits change with what else is in the batch, in evaluation mode too; "
            "expected a function of one image"
        )

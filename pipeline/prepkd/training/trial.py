"""Try a model on training batches first: a model that cannot be trained is rejected before any teacher is trained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from prepkd.data.samples.dataset import Dataset
from prepkd.errors import InputError
from prepkd.models import Normalised, WithFeatures, check_model
from prepkd.models.checkpoint import weights_fingerprint
from prepkd.models.logit_checks import logits_problem
from prepkd.models.user_errors import wrap_user_errors
from prepkd.models.weights import LoadedWeights
from prepkd.runtime.torch_state import deterministic_kernels, fork_rng
from prepkd.settings.messages import section
from prepkd.training.compilation import make_cache_folder
from prepkd.training.initial import load_given, untrained_from
from prepkd.training.settings import Training
from prepkd.training.step import uses_bf16


class StudentTrialSettings(Protocol):
    """The settings of a student that its trial reads; this package knows no methods."""

    @property
    def student(self) -> str:
        """The name of its model."""

    @property
    def as_training(self) -> Training:
        """The settings of its training."""

    @property
    def features_read(self) -> tuple[str, ...]:
        """Its named features that the method's terms read."""

    def check_features(self, model: Normalised) -> None:
        """Raise InputError for one of them that its model does not have."""

    @property
    def smallest_batches(self) -> Mapping[str, int]:
        """The smallest batch size, by the name of the term that compares a batch's samples."""


def try_students(students: Iterable[tuple[str, StudentTrialSettings]], dataset: Dataset) -> None:
    """Try each different student (section of params.yaml, settings); raises InputError for the first that cannot be trained."""
    tried = set()
    for name, one in students:
        training, smallest = one.as_training, max(one.smallest_batches.values())
        given = training.preprocessing.model_dump_json() if training.preprocessing else None
        start = one.student, training.weights, training.weights_key, given
        key = (*start, training.batch_size, training.precision, training.deterministic, one.features_read, smallest)
        if key not in tried:
            with section(name):
                try_student(one, dataset)
            tried.add(key)


def try_student(settings: StudentTrialSettings, dataset: Dataset) -> LoadedWeights | None:
    """Train a student on one batch of each size that an epoch has; return the description of weights loaded from a file.

    The batches are noise in the size of the test images, which is that of students' views. Pretrained weights in a name are
    not downloaded. torch's random state stays as it is. Raises InputError for a student that cannot be trained.
    """
    training = settings.as_training
    check_model(settings.student, dataset.samples.channels)
    check_last_batch(settings, len(dataset.samples))
    shown = replace(dataset, samples=dataset.held_out["test"])  # a teacher's own recipe may show images of another size
    model = untrained_from(settings.student, training, shown)
    loaded = load_given(model, settings.student, training, dataset)
    settings.check_features(model)
    batches = BatchShape(shown.samples.size, dataset.samples.channels, dataset.classes)
    sizes = batch_sizes(len(dataset.samples), training.batch_size)
    who = f"student {settings.student!r}"
    try_training(who, model, batches, sizes, training, settings.features_read)
    return loaded


def batch_sizes(samples: int, batch_size: int) -> list[int]:
    """Return the distinct batch sizes of an epoch: that of all batches but the last, and that of the last."""
    return list(dict.fromkeys([min(batch_size, samples), samples % batch_size or batch_size]))


@dataclass(frozen=True)
class BatchShape:
    """The shape of batches: height and width, channels, number of classes."""

    size: tuple[int, int]
    channels: int
    classes: int

    def pixels(self, count: int, device: torch.device) -> Tensor:
        """Noise in [0, 1], float32 (count, C, H, W) in channels-last memory format."""
        noise = torch.rand(count, self.channels, *self.size, generator=torch.Generator().manual_seed(0))
        return noise.to(device).contiguous(memory_format=torch.channels_last)


def try_training(
    who: str,
    model: Normalised,
    batches: BatchShape,
    sizes: Sequence[int],
    settings: Training,
    features: Sequence[str] = (),
) -> None:
    """Run forward and backward in training mode on a batch of each size; changes the model. Raises InputError in one line."""
    device = model.mean.device
    model.train().to(memory_format=torch.channels_last)
    student, bf16 = WithFeatures(model, features), uses_bf16(settings.precision, device)
    make_cache_folder(settings)
    with fork_rng(device), deterministic_kernels(settings.deterministic):
        for count in sizes:
            shown = f"a training batch of {count} images {(batches.channels, *batches.size)}"
            with wrap_user_errors(f"{who}: {shown}", "failed:", _advice(count, sizes)):
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    logits = student(batches.pixels(count, device))["logits"]
                _check_logits(who, shown, logits, (count, batches.classes))
            loss = F.cross_entropy(logits.float(), torch.zeros(count, dtype=torch.int64, device=device))
            with wrap_user_errors(f"{who}: the backward pass of {shown}", "failed:"):
                loss.backward()  # type: ignore[no-untyped-call]
    weights_fingerprint(model)  # raises for a model that could not be saved after training


def try_inference(who: str, model: Normalised, batches: BatchShape) -> None:
    """Compute the logits of two images, then of one, in evaluation mode; raises InputError in one line."""
    for count, images in ((2, "two images"), (1, "one image")):
        shown = f"{images} {(batches.channels, *batches.size)}"
        with wrap_user_errors(f"{who}: {shown}", "failed:"), torch.no_grad(), fork_rng(model.mean.device):
            logits = model.eval()(batches.pixels(count, model.mean.device))
        _check_logits(who, shown, logits, (count, batches.classes))


def _check_logits(who: str, shown: str, found: object, wanted: tuple[int, int]) -> None:
    if problem := logits_problem(found, wanted):
        raise InputError(f"{who}: {shown} gave {problem}")


def check_last_batch(settings: StudentTrialSettings, samples: int) -> None:
    """Raise InputError if an epoch's last batch is too short for a loss that compares the samples of a batch."""
    batch_size = settings.as_training.batch_size
    last = samples % batch_size or batch_size
    for term, least in settings.smallest_batches.items():
        if last < least:
            raise InputError(
                f"distill.batch_size is {batch_size}: of {samples} samples the last batch has {last}; {term} "
                f"compares the samples of a batch, at least {least}; choose another batch size"
            )


def _advice(count: int, sizes: Sequence[int]) -> str:
    if count == 1:
        last = len(sizes) > 1
        return f"; {'the last batch of an epoch' if last else 'each batch'} has one image, choose another batch_size"
    return "; is it made for images of this size? `preprocessing` with a `size` resizes them"

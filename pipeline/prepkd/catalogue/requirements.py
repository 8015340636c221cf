"""The cost of a feature term for a pair of models: stored numbers and bytes of the teacher, and adapters."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.methods.term import FeatureTerm, Term
from prepkd.models.build import build_model, pretrained
from prepkd.models.features import feature_shapes
from prepkd.models.names import architecture
from prepkd.models.normalised import Normalised
from prepkd.store.encodings.tensors import StoredTensor


@dataclass(frozen=True)
class Pair:
    """An untrained teacher and student, the size of their pictures (height, width), the numbers of training samples and views."""

    teacher: Normalised
    student: Normalised
    size: tuple[int, int]
    samples: int
    views: int
    described: str


@dataclass(frozen=True)
class DataShape:
    """The data of a pair of models: size (height, width) and channels of the pictures, numbers of classes, samples and views."""

    size: tuple[int, int]
    channels: int
    classes: int
    samples: int
    views: int


def untrained_pair(
    teacher: str,
    student: str,
    data: DataShape,
    preprocessing: tuple[Preprocessing | None, Preprocessing | None] = (None, None),
) -> Pair:
    """Build both models with random weights, without changing torch's random state; raises InputError as `build_model` does."""

    def untrained(name: str, given: Preprocessing | None) -> Normalised:
        known = pretrained(name)
        made_up = Preprocessing((0.5,) * data.channels, (0.25,) * data.channels)
        shown = given or (known.preprocessing if known else made_up)
        return Normalised(build_model(architecture(name), data.classes, in_channels=data.channels), shown)

    with torch.random.fork_rng(devices=[]):
        models = untrained(teacher, preprocessing[0]), untrained(student, preprocessing[1])
    described = f"{teacher} teaching {student} on pictures of {data.size[0]}x{data.size[1]}"
    return Pair(*models, data.size, data.samples, data.views, described)


def example() -> Pair:
    """The first pair in the literature's tables, on CIFAR-100 with every view of crop and flip."""
    cifar100 = DataShape((32, 32), channels=3, classes=100, samples=50_000, views=162)
    return untrained_pair("resnet32x4", "resnet8x4", cifar100)


@dataclass(frozen=True)
class FeatureCost:
    """The teacher's tensors that a term needs per (view, sample) in addition to the logits: numbers and bytes by tensor name.

    `adapter_parameters`: the number of parameters that the term trains in addition to the student's. `problem`: the reason why
    the pair does not fit the term.
    """

    features: tuple[str, ...] = ()
    numbers: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    adapter_parameters: int = 0
    problem: str | None = None


def feature_cost(term: Term, models: Pair) -> FeatureCost:
    """The cost of a term with its settings for a pair of models; empty unless it is a feature term."""
    if not isinstance(term, FeatureTerm):
        return FeatureCost()
    try:
        names = (*term.features, *term.teacher_features)
        teacher = feature_shapes(models.teacher, names, models.size)
        student = feature_shapes(models.student, term.features, models.size)
        found = term.teacher_tensors({name: torch.zeros(1, *shape) for name, shape in teacher.items()}, student)
        stored = [StoredTensor(name, tuple(values.shape[1:]), term.store_dtype) for name, values in found.items()]
        with torch.random.fork_rng(devices=[]):
            adapter = term.adapter(student, teacher, models.samples)
    except InputError as error:
        return FeatureCost(term.features, problem=str(error))
    return FeatureCost(
        term.features,
        {name: values.numel() for name, values in found.items()},
        {one.name: one.bytes_per_row for one in stored},
        sum(one.numel() for one in adapter.parameters()) if adapter else 0,
    )


def entry_bytes(name: str, terms: Sequence[FeatureTerm], models: Pair) -> int:
    """Bytes per (view, sample) of an entry's store, a term's own or a named feature's; 0 if the pair does not fit it."""
    for term in terms:
        if term.name == name:
            return sum(feature_cost(term, models).bytes.values())
    try:
        shape = feature_shapes(models.teacher, (name,), models.size)[name]
        return StoredTensor(name, tuple(shape), "float32").bytes_per_row
    except InputError:
        return 0  # the term's `problem` says why

"""Helpers shared by the tests of feature terms."""

from collections.abc import Mapping
from typing import Any

import torch
from prepkd.distillation.student_settings import Distill
from prepkd.methods.objective import Objective
from prepkd.methods.term import FeatureTerm, State
from torch import Tensor

EPOCH = torch.zeros(())
Features = Mapping[str, Tensor]


def randn(*shape: int, seed: int) -> Tensor:
    """Return float64 standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shapes(features: Features) -> dict[str, torch.Size]:
    return {name: values.shape[1:] for name, values in features.items()}


def loss(
    term: FeatureTerm, student: Features, teacher: Features, *, adapter: Any = None, labels: Tensor | None = None
) -> Tensor:
    """Return a term's values (B,) for the features of student and teacher."""
    own, theirs = term.student_tensors(student, shapes(teacher)), term.teacher_tensors(teacher, shapes(student))
    given = torch.zeros(len(next(iter(student.values()))), dtype=torch.int64) if labels is None else labels
    return term.loss(own, theirs, given, State(EPOCH, adapter))


def settings(method: str, **changes: Any) -> Distill:
    wanted = {"teacher": "t", "student": "resnet8", "epochs": 2, "method": method, "source": "online", "batch_size": 16}
    return Distill.model_validate(wanted | {"precision": "float32", "lr": 0.05} | changes)


def objective(method: str, student: Features, teacher: Features, samples: int = 0, **changes: Any) -> Objective:
    """Build the objective of a method for these features, in float64."""
    torch.manual_seed(0)
    return Objective(settings(method, **changes).terms, shapes(student), shapes(teacher), samples).double()


def answers(made: Objective, teacher: Features, logits: Tensor, **drawn: Tensor) -> dict[str, Tensor]:
    """Return a teacher's answers: logits as stored, the tensors that the terms read, and the terms' random draws."""
    stored = {"logits": logits - logits.amax(1, keepdim=True), "row_max": logits.amax(1)}
    return stored | dict(teacher_tensors_of(made, teacher)) | drawn


def teacher_tensors_of(made: Objective, features: Features) -> Features:
    """Return the teacher's tensors for all terms by name, as a store would hold them beside the logits."""
    return {
        key: value
        for term in made.terms.feature_terms
        for key, value in term.teacher_tensors(features, made.shapes[0]).items()
    }


def asked_names(made: Objective) -> tuple[str, ...]:
    """Return the names of the tensors that the terms read from the teacher."""
    return tuple(teacher_tensors_of(made, {name: torch.zeros(1, *shape) for name, shape in made.shapes[1].items()}))

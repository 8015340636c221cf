"""The teacher tensors that feature terms need: from stored entries of `cache.features`, or from the live teacher, bit for bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from prepkd.methods.entries import Entry, entries_serving
from prepkd.methods.term import FeatureTerm, Shapes
from prepkd.models.features import Answers
from prepkd.runtime.torch_state import arithmetic
from prepkd.teacher.feature_caching import feature_encoding


@dataclass(frozen=True)
class Supply:
    """A method's feature terms, and the entries that serve each: the term's own, or those of the features that it reads.

    `student` has the shapes of the student's features.
    """

    terms: Sequence[FeatureTerm]
    entries: Sequence[Entry]
    student: Shapes

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the teacher's features that are read."""
        return tuple(self.teacher)

    @property
    def teacher(self) -> Shapes:
        """The shapes of the teacher's features that are read, by name."""
        return {name: shape for entry in self.entries for name, shape in entry.teacher.items()}

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """The names of the tensors that the terms need."""
        zeros = {name: torch.zeros(1, *shape) for name, shape in self.teacher.items()}
        return tuple(self.teacher_tensors({entry.name: entry.teacher_tensors(zeros) for entry in self.entries}))

    def live(self, features: Answers) -> dict[str, Tensor]:
        """The terms' tensors of a batch of a live teacher's features, as stores of the entries would return them."""
        stored = {}
        for entry in self.entries:
            encoding = feature_encoding(entry)
            stored[entry.name] = encoding.decode(encoding.encode(entry.teacher_tensors(features)))
        return self.teacher_tensors(stored)

    def teacher_tensors(self, stored: Mapping[str, Answers]) -> dict[str, Tensor]:
        """The terms' tensors of a batch, from the entries' tensors by entry."""
        names = [entry.name for entry in self.entries]
        found: dict[str, Tensor] = {}
        for term in self.terms:
            if entries_serving(term, names) == (term.name,):
                found.update(stored[term.name])
            else:
                found.update(
                    term.teacher_tensors({name: stored[name][name] for name in term.features_of_teacher}, self.student)
                )
        return found

    @torch.no_grad()
    def in_batches(
        self, stored: Mapping[str, Answers], *, batch_size: int, precision: str, device: torch.device
    ) -> dict[str, Tensor]:
        """The terms' tensors of all samples (N, ...), computed in a live teacher's batches.

        The last batch is padded to full size, since the last bits depend on a batch's shape.
        """
        names = [entry.name for entry in self.entries]
        if all(entries_serving(term, names) == (term.name,) for term in self.terms):
            return self.teacher_tensors(stored)
        count = len(next(value for tensors in stored.values() for value in tensors.values()))
        parts: dict[str, list[Tensor]] = {}
        with arithmetic(precision, device):
            for start in range(0, count, batch_size):
                batch = {
                    entry: {name: _padded(value[start : start + batch_size], batch_size) for name, value in one.items()}
                    for entry, one in stored.items()
                }
                for name, value in self.teacher_tensors(batch).items():
                    parts.setdefault(name, []).append(value)
        return {name: torch.cat(values)[:count] for name, values in parts.items()}


def _padded(rows: Tensor, size: int) -> Tensor:
    """Pad rows (n, ...) with zeros to (size, ...)."""
    return torch.cat([rows, rows.new_zeros(size - len(rows), *rows.shape[1:])]) if len(rows) < size else rows

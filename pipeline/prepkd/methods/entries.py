"""Entries of `cache.features`, the unit of feature caching: the teacher's tensors for a feature term, or a named feature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prepkd.errors import InputError
from prepkd.methods.missing_features import features_of
from prepkd.methods.term import FeatureTerm, Shapes
from prepkd.methods.terms import TERMS
from prepkd.methods.user_terms import is_user_term
from prepkd.models.features import Answers, feature_shapes
from prepkd.models.normalised import Normalised
from prepkd.settings.validation import validated


@dataclass(frozen=True)
class Entry:
    """One entry: its tensors per sample depend only on the teacher's features and on the fields here.

    `term` is None for a named feature, stored unchanged; `sizes` are the height and width that the term's maps are reduced to,
    those of the smaller of both models' maps; `teacher` has the shapes of the teacher's features that the entry reads.
    """

    name: str
    term: FeatureTerm | None
    sizes: Mapping[str, tuple[int, ...]]
    teacher: Shapes

    @property
    def features(self) -> tuple[str, ...]:
        """The teacher's named features that the entry reads."""
        return self.term.features_of_teacher if self.term else (self.name,)

    @property
    def dtype(self) -> str:
        """The type in which its tensors are stored."""
        return self.term.store_dtype if self.term else "float32"

    def teacher_tensors(self, features: Answers) -> dict[str, Tensor]:
        """Compute the entry's tensors from a batch of the teacher's features; float32, by name."""
        if self.term is None:
            return {self.name: features[self.name].float()}
        other = {name: torch.Size((*shape[:1], *self.sizes.get(name, ()))) for name, shape in self.teacher.items()}
        return {name: value.float() for name, value in self.term.teacher_tensors(features, other).items()}

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The shape of each of its tensors, for one sample."""
        zeros = {name: torch.zeros(1, *self.teacher[name]) for name in self.features}
        return {name: value.shape[1:] for name, value in self.teacher_tensors(zeros).items()}

    def describe(self) -> dict[str, Any]:
        """The entry as JSON: the section `asked` of a store's attributes."""
        return {
            "entry": self.name,
            "settings": self.term.model_dump(mode="json", exclude=set(self.term.loss_only)) if self.term else None,
            "sizes": {name: list(size) for name, size in self.sizes.items()},
            "teacher": {name: list(shape) for name, shape in self.teacher.items()},
        }

    @classmethod
    def from_description(cls, asked: Mapping[str, Any], where: object) -> "Entry":
        """Return the entry that a store describes; raises InputError for a term that this version or project does not have."""
        name, settings = asked["entry"], asked["settings"]
        term = None
        if settings is not None:
            if (known := TERMS.get(name)) is None or not issubclass(known, FeatureTerm):
                raise InputError(
                    f"{where}: attributes: asked.entry is {name!r}, which is no feature term; update prepkd"
                )
            term = validated(known, settings, f"{where}: attributes: asked.settings")
        sizes = {key: tuple(size) for key, size in asked["sizes"].items()}
        teacher = {key: torch.Size(shape) for key, shape in asked["teacher"].items()}
        entry = cls(name, term, sizes, teacher)
        if set(entry.features) != teacher.keys():
            raise InputError(f"{where}: attributes: asked.teacher has other features than {', '.join(entry.features)}")
        return entry


def make_entry(name: str, term: FeatureTerm | None, student: Shapes, teacher: Shapes) -> Entry:
    """Make an entry from both models' shapes; `student` is read only for a term, and may have more features."""
    own = {one: torch.Size(teacher[one]) for one in (term.features_of_teacher if term else (name,))}
    sizes = {one: _smaller(own[one], student[one]) for one in term.features if len(own[one]) > 1} if term else {}
    return Entry(name, term, sizes, own)


def _smaller(one: torch.Size, other: torch.Size) -> tuple[int, ...]:
    return tuple(map(min, one[1:], other[1:])) if len(one) == len(other) else tuple(one[1:])


def make_entries(
    terms: Mapping[str, FeatureTerm | None], student: Normalised, teacher: Normalised, size: tuple[int, int]
) -> list[Entry]:
    """Make the entries of `terms`, where None stands for a named feature, for two models on images of `size`.

    Raises InputError for a feature that a model does not have.
    """
    made = []
    for name, term in terms.items():
        with features_of("the teacher", [term]):
            own = feature_shapes(teacher, term.features_of_teacher if term else (name,), size)
        with features_of("the student", [term]):
            other = feature_shapes(student, term.features, size) if term else {}
        made.append(make_entry(name, term, other, own))
    return made


def entries_serving(term: FeatureTerm, entries: Sequence[str]) -> tuple[str, ...]:
    """Return the entries of `cache.features` that serve a term: its own, or every feature that it reads; none otherwise."""
    if term.name in entries:
        return (term.name,)
    return term.features_of_teacher if set(term.features_of_teacher) <= set(entries) else ()


def entries_for(terms: Sequence[FeatureTerm], listed: Sequence[str]) -> list[str]:
    """Return the entries that serve the terms: those `listed` if they serve a term, else the ones that add the fewest bytes.

    A feature that several terms read unchanged is itself an entry; it serves every term whose features are all entries. Other
    terms have entries of their own; a user's term has the features that it reads.
    """
    left = [term for term in terms if not entries_serving(term, listed)]
    needed = [name for term in left if is_user_term(type(term)) for name in term.features_of_teacher]
    whole = [name for term in left if term.stores_features for name in term.features_of_teacher]
    shared = [name for name in whole if whole.count(name) > 1 or name in needed]
    there = [*listed, *needed, *shared]
    names = [name for term in terms for name in entries_serving(term, there) or (term.name,)]
    return list(dict.fromkeys(names))


def chosen_entries(listed: Sequence[str], only: str | None) -> list[str]:
    """Return the entries of `cache.features` that a command works on: all, or the one in `--only`; raises InputError."""
    if not listed:
        raise InputError("cache.features is empty; name feature terms, as at, or features, as pooled")
    if only is not None and only not in listed:
        raise InputError(f"--only is {only!r}; expected an entry of cache.features: {', '.join(listed)}")
    return [only] if only else list(listed)


def check_entries(entries: Sequence[str]) -> None:
    """Raise ValueError for an entry that is a term without features."""
    for name in entries:
        if name in TERMS and not issubclass(TERMS[name], FeatureTerm):
            known = ", ".join(key for key, term in TERMS.items() if issubclass(term, FeatureTerm))
            raise ValueError(
                f"has {name!r}, which reads no features; expected feature terms ({known}) or names of features"
            )

"""Every feature term by its entry of `cache.features`: a stored entry serves students of any width."""

from collections.abc import Mapping

import pytest
import torch
from feature_losses import EPOCH
from prepkd.errors import InputError
from prepkd.methods.entries import Entry, make_entry
from prepkd.methods.term import FeatureTerm, Shapes, State
from prepkd.methods.terms import TERMS
from torch import Size, Tensor

FEATURES = {name: term for name, term in TERMS.items() if issubclass(term, FeatureTerm)}
SIZES = {"stem": (8, 8), "stage1": (8, 8), "stage2": (4, 4), "stage3": (2, 2), "pooled": ()}
SAMPLES, LABELS = 6, torch.tensor([0, 1, 2, 0, 1, 2])
WIDTHS = {"as wide": (8, 8), "narrower": (2, 70), "wider": (70, 2)}
EQUAL_CHANNELS = {"fsp"}  # terms that are undefined for models of unequal channels


def shapes(term: FeatureTerm, channels: int, smaller: int = 1) -> dict[str, Size]:
    """Return the shapes that the term reads from a model with `channels` channels and maps smaller by a factor of `smaller`."""

    def shape(name: str) -> Size:
        if name.endswith("/affine"):
            return Size((2, channels))
        return Size((channels, *(max(side // smaller, 1) for side in SIZES[name.removesuffix(".pre")])))

    return {name: shape(name) for name in term.features_of_teacher}


def values(of: Shapes, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(SAMPLES, *shape, generator=generator) for name, shape in of.items()}


def drawn(term: FeatureTerm) -> Mapping[str, Tensor]:
    return {name: torch.arange(SAMPLES) for name in term.drawn}


def loss(term: FeatureTerm, entry: Entry, student: Shapes, teacher: Shapes) -> Tensor:
    """Return the term's values with the teacher tensors computed by its entry."""
    torch.manual_seed(0)
    state = State(EPOCH, term.adapter(student, teacher, SAMPLES), drawn(term))
    own = term.student_tensors(values(student, 1), teacher)
    return term.loss(own, entry.teacher_tensors(values(teacher, 2)), LABELS, state)


@pytest.mark.parametrize(
    "smaller", [(1, 1), (2, 1), (1, 2)], ids=["equal maps", "student's smaller", "teacher's smaller"]
)
@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("name", FEATURES)
def test_what_an_entry_asks_serves_a_student_of_any_width(
    name: str, widths: tuple[int, int], smaller: tuple[int, int]
) -> None:
    """The entry's tensors equal bit for bit those that the term reads from a live teacher, and the loss is finite."""
    term = FEATURES[name]()
    student, teacher = (shapes(term, *one) for one in zip(widths, smaller, strict=True))
    entry = make_entry(name, term, student, teacher)
    live, stored = term.teacher_tensors(values(teacher, 2), student), entry.teacher_tensors(values(teacher, 2))
    assert live.keys() == stored.keys()
    assert all(torch.equal(live[key].float(), stored[key]) for key in live)
    if name in EQUAL_CHANNELS and widths[0] != widths[1]:
        with pytest.raises(InputError, match="needs equal channels"):
            loss(term, entry, student, teacher)
        return
    found = loss(term, entry, student, teacher)
    assert found.shape == (SAMPLES,) and found.isfinite().all() and found.abs().max() > 0


@pytest.mark.parametrize("name", FEATURES)
def test_an_entry_does_not_depend_on_the_students_channels(name: str) -> None:
    term = FEATURES[name]()
    teacher = shapes(term, 8)
    entries = [make_entry(name, term, shapes(term, channels), teacher) for channels in (1, 8, 70)]
    assert all(entry == entries[0] and entry.shapes == entries[0].shapes for entry in entries)

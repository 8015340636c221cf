"""Questions to a live teacher, and the same questions asked wrongly: a comparison that can't tell them apart proves nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.data.samples.samples import Samples
from prepkd.models import Normalised
from prepkd.store import LogitStore
from prepkd.teacher.forward_pass import raw_logits, ready
from prepkd.views import ViewPlan


@dataclass(frozen=True)
class Question:
    """What a teacher is asked: views and samples, int64 (N,), whose images it sees, int64 (N,), and their integers (N, p)."""

    model: Normalised
    samples: Samples
    views: NDArray[np.int64]
    chosen: NDArray[np.int64]
    shown: NDArray[np.int64]
    rows: NDArray[Any]

    @classmethod
    def of(
        cls, model: Normalised, plan: ViewPlan, samples: Samples, views: NDArray[np.int64], chosen: NDArray[np.int64]
    ) -> "Question":
        """The right question: every sample is shown as itself, by the plan's integers."""
        return cls(model, samples, views, chosen, chosen, plan.parameters(views, chosen))

    def asked(self, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Samples that are shown and their integers, on the samples' device."""
        device = self.samples.device
        return torch.from_numpy(self.shown[part]).to(device), torch.from_numpy(self.rows[part]).to(device)

    def labels(self, store: LogitStore) -> Tensor:
        """Labels int64 (N,), or shares of the classes (N, K), on the CPU."""
        return self.samples.targets(store.plan, *self.asked(), store.classes).cpu()


def batch_size(store: LogitStore) -> int:
    """The batch in which the store's teacher was asked; 256 where nobody wrote it down."""
    return store.attributes.precision.batch_size or 256


def live(store: LogitStore, question: Question) -> Tensor:
    """The teacher's raw logits (N, K), in the store's precision (float32 if unknown) and batch shape, on the CPU."""
    known = store.attributes.precision.arithmetic
    raw = raw_logits(
        ready(question.model),
        store.plan,
        question.samples,
        *question.asked(),
        batch_size=batch_size(store),
        precision="ieee" if known == "unknown" else known,
    )
    return raw.cpu()


def shuffled(store: LogitStore, question: Question) -> Question | str:
    """Each row's image is another drawn sample's: a permutation that leaves none in its place."""
    order = np.argsort(question.chosen, kind="stable")
    most = int(np.unique(question.chosen, return_counts=True)[1].max())
    if 2 * most > len(order):
        return "one sample is half of the draw"
    # Equal samples stand together, at most `most` of them: a step of that length leads to another one.
    other = np.empty_like(order)
    other[order] = np.roll(order, most)
    return replace(question, shown=question.chosen[other])


def flip_inverted(store: LogitStore, question: Question) -> Question | str:
    """Each image is mirrored where it should not be, and the other way round."""
    start, columns = 0, []
    for name, step in store.plan.recipe:
        if name == "flip":
            columns.append(start)
        start += len(step.ranges)
    if not columns:
        return "the recipe has no flip"
    rows = question.rows.copy()
    rows[:, columns[0]] = 1 - rows[:, columns[0]]  # one of them: two would cancel out
    return replace(question, rows=rows)


def next_view(store: LogitStore, question: Question) -> Question | str:
    """Each image is rendered as the view that follows, the first after the last."""
    if store.views == 1:
        return "the store has one view"
    return replace(question, rows=store.plan.parameters((question.views + 1) % store.views, question.chosen))


def wrong_normalisation(store: LogitStore, question: Question) -> Question | str:
    """The teacher gets pixels in [0, 1] without its mean and standard deviation."""
    channels = question.samples.channels
    plain = replace(question.model.preprocessing, mean=(0.0,) * channels, std=(1.0,) * channels)
    if question.model.preprocessing == plain:
        return "the teacher takes pixels as they are"
    return replace(question, model=Normalised(question.model.body, plain).to(question.samples.device))


# Each makes another question of the right one, or says why it does not apply.
CONTROLS: dict[str, Callable[[LogitStore, Question], Question | str]] = {
    "shuffled index": shuffled,
    "inverted flip": flip_inverted,
    "neighbouring view": next_view,
    "wrong normalisation": wrong_normalisation,
}


def changed(store: LogitStore, question: Question, other: Question) -> Tensor:
    """Which rows of two questions differ in what the body of the model sees, bool (N,): an image may equal its mirror."""
    if other.model is not question.model:
        return torch.ones(len(question.chosen), dtype=torch.bool)
    size, found = batch_size(store), []
    for start in range(0, len(question.chosen), size):
        part = slice(start, start + size)
        pixels = [q.samples.pixels(store.plan, *q.asked(part)) for q in (question, other)]
        found.append((pixels[0] != pixels[1]).flatten(1).any(dim=1).cpu())
    return torch.cat(found)

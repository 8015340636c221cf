"""Negative controls: deliberately wrong queries. If a comparison accepts one, its agreement proves nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from prepkd.models import Normalised
from prepkd.store import AnswerStore
from prepkd.verification.query import Query, batch_size


def shuffled(store: AnswerStore, query: Query) -> Query | str:
    """Show each row the image of another drawn sample: a permutation without fixed points."""
    order = np.argsort(query.sample_indices, kind="stable")
    most = int(np.unique(query.sample_indices, return_counts=True)[1].max())
    if 2 * most > len(order):
        return "one sample is half of the draw"
    # Sorting groups equal samples, at most `most` per group, so a shift by `most` always leads to another sample.
    other = np.empty_like(order)
    other[order] = np.roll(order, most)
    return replace(query, image_indices=query.sample_indices[other])


def flip_inverted(store: AnswerStore, query: Query) -> Query | str:
    """Invert the flip of each image."""
    columns = store.plan.columns("flip")
    if not columns:
        return "the recipe has no flip"
    parameters = query.parameters.copy()
    for kind, column in columns.items():
        here = query.views // store.plan.weak.views == kind
        parameters[here, column] = 1 - parameters[here, column]
    return replace(query, parameters=parameters)


def next_view(store: AnswerStore, query: Query) -> Query | str:
    """Render each image as the next view; the first view follows the last."""
    if store.views == 1:
        return "the store has one view"
    return replace(query, parameters=store.plan.parameters((query.views + 1) % store.views, query.sample_indices))


def wrong_normalisation(store: AnswerStore, query: Query) -> Query | str:
    """Give the teacher pixels in [0, 1], without its mean and standard deviation."""
    channels = query.samples.channels
    plain = replace(query.model.preprocessing, mean=(0.0,) * channels, std=(1.0,) * channels)
    if query.model.preprocessing == plain:
        return "the teacher takes pixels as they are"
    return replace(query, model=Normalised(query.model.body, plain).to(query.samples.device))


# Each makes a wrong query from the correct one, or returns the reason why it does not apply.
CONTROLS: dict[str, Callable[[AnswerStore, Query], Query | str]] = {
    "shuffled index": shuffled,
    "inverted flip": flip_inverted,
    "neighbouring view": next_view,
    "wrong normalisation": wrong_normalisation,
}


def changed_rows(store: AnswerStore, query: Query, other: Query) -> Tensor:
    """Rows in which two queries differ in the model body's input, bool (N,): an image may equal its mirror image."""
    if other.model is not query.model:
        return torch.ones(len(query.sample_indices), dtype=torch.bool)
    size, found = batch_size(store), []
    for start in range(0, len(query.sample_indices), size):
        part = slice(start, start + size)
        pixels = [q.samples.pixels(store.plan, *q.inputs(part)) for q in (query, other)]
        found.append((pixels[0] != pixels[1]).flatten(1).any(dim=1).cpu())
    return torch.cat(found)

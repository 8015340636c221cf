"""A live teacher's answers, equal to those of its store."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from prepkd.data.samples.dataset import Dataset
from prepkd.models import Normalised
from prepkd.models.features import WithFeatures
from prepkd.runtime import distributed
from prepkd.store.encodings import LogitEncoding, encode_in_blocks, words_of
from prepkd.teacher.forward_pass import SampleViews, forward, to_eval
from prepkd.teacher.supply import Supply
from prepkd.views.order import Views


class OnlineTeacher:
    """A live teacher's answers, in the store's encoding and batches, so that they equal the store's bit for bit.

    `supply` adds the tensors that feature terms need.
    """

    prefetch_depth = 0  # the student uses the device while it trains

    def __init__(
        self,
        model: Normalised,
        dataset: Dataset,
        encoding: LogitEncoding,
        *,
        batch_size: int,
        precision: str,
        supply: Supply | None = None,
    ) -> None:
        self.model = WithFeatures(to_eval(model), supply.features if supply else ())
        self.dataset, self.encoding, self.supply = dataset, encoding, supply
        self.batch_size, self.precision = batch_size, precision
        self.names = (*encoding.answers, *(supply.asked if supply else ()))

    def __call__(self, views: Views) -> Mapping[str, Tensor]:
        """The teacher's answers for every sample, in the order of samples; several processes share the batches."""
        samples, plan = self.dataset.samples, self.dataset.plan
        shown = (
            torch.arange(len(samples), device=samples.index_device),
            torch.from_numpy(plan.parameters(views)).to(samples.index_device),
        )
        settings: dict[str, Any] = {"batch_size": self.batch_size, "precision": self.precision}
        if self.supply:
            settings["teacher_tensors"] = self.supply.live
        size = self.batch_size
        parts = [slice(one.start * size, one.stop * size) for one in distributed.rank_slices(-(-len(samples) // size))]
        lengths = [len(shown[0][part]) for part in parts]
        length = lengths[distributed.rank()]
        # A process without a batch needs the answers' shapes.
        own = parts[distributed.rank()] if length else slice(0, 1)
        found = forward(self.model, SampleViews(samples, plan, *(one[own] for one in shown)), **settings)
        found = {name: distributed.all_gather(answers[:length], lengths) for name, answers in found.items()}
        labels = samples.targets(plan, *shown, self.encoding.classes)
        words = words_of(self.encoding, plan, views)
        return {**found, **self.encoding.decode(encode_in_blocks(self.encoding, found["logits"], labels, words))}

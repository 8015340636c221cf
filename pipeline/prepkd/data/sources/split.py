"""Split a flat folder of class folders into train, val and test: seeded, and stratified by class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from prepkd.display.text import counted
from prepkd.errors import InputError
from prepkd.runtime.streams import Purpose, random_order
from prepkd.settings.section import Section, Seed


class SplitShares(Section):
    """The shares of each class's images that become `test` and `val`; `seed` chooses the images."""

    val: float = Field(default=0.0, ge=0.0, lt=1.0, description="share of each class's images; 0: no val")
    test: float = Field(gt=0.0, lt=1.0, description="share of each class's images")
    seed: Seed = Field(default=0, description="selects the images")

    @model_validator(mode="after")
    def _leave_some(self) -> "SplitShares":
        if self.val + self.test >= 1:
            raise ValueError(f"val {self.val:g} and test {self.test:g} leave nothing for train; expected a sum below 1")
        return self


def split_indices(
    labels: NDArray[np.int64], class_names: Sequence[str], shares: SplitShares
) -> dict[str, NDArray[np.intp]]:
    """The indices of train, test and, if its share is positive, val, each in ascending order, for labels int64 (N,).

    Of a class's n images, round(n * share) go to test, and likewise to val. The choice depends on (seed, class, n) only; a
    smaller test is part of a larger one. Raises InputError if a class would have no images in one of them.
    """
    parts: dict[str, list[NDArray[np.intp]]] = {
        part: [] for part in (("train", "test", "val") if shares.val else ("train", "test"))
    }
    for label, name in enumerate(class_names):
        images = np.flatnonzero(labels == label)
        drawn = images[random_order(shares.seed, Purpose.FLAT_SPLIT.stream(label), len(images))]
        test, val = round(len(images) * shares.test), round(len(images) * shares.val)
        found = {"train": drawn[test + val :], "test": drawn[:test], "val": drawn[test : test + val]}
        if not all(len(found[part]) for part in parts):
            counts = " and ".join(f"{len(found[part])} in {part}" for part in parts)
            raise InputError(
                f"prepare.split: class {name!r} has {counted(len(images), 'image')} and would have {counts}; "
                "expected at least 1 in each; add images, or set other shares"
            )
        for part, those in parts.items():
            those.append(found[part])
    return {part: np.sort(np.concatenate(those)) for part, those in parts.items()}

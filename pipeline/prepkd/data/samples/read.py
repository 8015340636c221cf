"""Reading a prepared file as a dataset on the training device."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from prepkd.data.images.channels import channel_statistics
from prepkd.data.images.statistics import Statistics
from prepkd.data.prepared.file import Split, describe, load_split
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.runtime.devices import device_name
from prepkd.runtime.streams import Purpose
from prepkd.views import Recipe, ViewPlan, make_plan


@dataclass(frozen=True)
class TrainingViews:
    """The views of the training samples: recipe, number, seed, the recipe of strong views (empty: none), and purpose."""

    recipe: Recipe
    views: int | Literal["all"]
    seed: int
    strong: Recipe = ()
    purpose: Purpose = Purpose.CACHED_VIEWS

    def plan(self, samples: int) -> ViewPlan:
        """The plan for a number of samples; raises ValueError."""
        return make_plan(self.recipe, self.views, self.seed, samples, self.strong, purpose=self.purpose)


def read_dataset(path: Path, views: TrainingViews, device: torch.device, *, held_out_recipe: Recipe) -> Dataset:
    """Read prepared data onto `device` under the view plan of the training samples.

    `held_out_recipe` determines the size of held-out samples. Raises InputError for a missing or damaged file, and if the
    recipe does not fit images of several sizes.
    """
    info = describe(path)
    others = [name for name in info.splits if name != "train"]

    def read_train() -> tuple[Split, Statistics]:
        split = load_split(path, "train")
        return split, channel_statistics(split.images)

    with ThreadPoolExecutor(2) as pool:  # reading and hashing CIFAR-100 takes half a second per part
        reading = pool.submit(read_train)
        held_out = dict(zip(others, pool.map(partial(load_split, path), others), strict=True))
        train, statistics = reading.result()
    plan = views.plan(len(train.labels))
    return Dataset(
        Samples.of(train, device, views.recipe),
        {name: Samples.of(split, device, held_out_recipe) for name, split in held_out.items()},
        plan,
        Preprocessing.from_statistics(statistics),
        len(info.class_names),
        info.class_names,
        {
            "dataset": info.dataset,
            "dataset_fingerprint": info.fingerprint,
            "split_fingerprint": train.fingerprint,
            "plan_fingerprint": plan.fingerprint,
            "device": device_name(device),
        },
    )

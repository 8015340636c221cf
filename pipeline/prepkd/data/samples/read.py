"""Reading a prepared file as a dataset on the training device."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from prepkd.data.images.channels import channel_statistics
from prepkd.data.images.statistics import Statistics
from prepkd.data.prepared.file import Split, describe, load_split
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.runtime.streams import Purpose
from prepkd.views import Recipe, make_plan


def read_dataset(
    path: Path,
    recipe: Recipe,
    views: int | Literal["all"],
    seed: int,
    device: torch.device,
    *,
    held_out_recipe: Recipe,
    purpose: Purpose = Purpose.CACHED_VIEWS,
    strong: Recipe = (),
) -> tuple[Dataset, dict[str, Any]]:
    """Read prepared data onto `device` under a view plan; also return the fingerprints of data and plan.

    Training samples are rendered by `recipe`, and as strong views by `strong` if it has steps; held-out samples have the size
    that `held_out_recipe` gives. Raises InputError for a missing or damaged file, and if the recipe does not fit images of
    several sizes.
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
    plan = make_plan(recipe, views, seed, len(train.labels), strong, purpose=purpose)
    dataset = Dataset(
        Samples.of(train, device, recipe),
        {name: Samples.of(split, device, held_out_recipe) for name, split in held_out.items()},
        plan,
        Preprocessing.by(statistics),
        len(info.class_names),
        info.class_names,
    )
    return dataset, {
        "dataset": info.dataset,
        "dataset_fingerprint": info.fingerprint,
        "split_fingerprint": train.fingerprint,
        "plan_fingerprint": plan.fingerprint,
        # Results differ in the last bits between a CPU's thread counts.
        "device": device.type if device.type != "cpu" else f"cpu, {torch.get_num_threads()} threads",
    }

"""Datasets for benchmarks: a prepared file and its teacher, or random images of the same size."""

from pathlib import Path
from typing import Any

import torch
from prepkd.data.images.channels import channel_statistics
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.models import Normalised, load_checkpoint
from prepkd.models.new import new_model
from prepkd.views import ViewPlan

CIFAR_RECIPE = [{"crop": {"padding": 4}}, "flip"]
DIGITS_RECIPE = [{"crop": {"padding": 1}}]
SEED = 0
ORIGIN = {"dataset": "bench", "dataset_fingerprint": "0" * 64, "split_fingerprint": "0" * 64, "device": "cpu"}


def real(data: Path, teacher: Path, views: int, samples: int | None) -> tuple[Normalised, Dataset, dict[str, Any]]:
    """Read the first `samples` training images (None: all) with `views` drawn views, and the teacher; also describe both."""
    split, info = load_split(data, "train"), describe(data)
    images, labels = split.images[:samples], split.labels[:samples]
    count = len(labels)
    recipe = CIFAR_RECIPE if images.shape[1] == 32 else DIGITS_RECIPE
    model, card = load_checkpoint(teacher)
    whole = Samples(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))
    plan = ViewPlan(recipe, views, SEED, count)
    dataset = Dataset(
        whole, {}, plan, Preprocessing.from_statistics(channel_statistics(images)), len(info.class_names), origin=ORIGIN
    )
    named = {
        "images": f"{info.dataset}, the first {count:,} training images",
        "split_fingerprint": split.fingerprint,
        "teacher": card["model"],
        "weights_fingerprint": card["weights_fingerprint"],
    }
    return model, dataset, named


def made_up(
    model: str,
    shape: tuple[int, int, int],
    classes: int,
    views: int,
    samples: int,
    device: torch.device | str = "cpu",
) -> tuple[Normalised, Dataset, dict[str, Any]]:
    """Make random images (samples, *shape) and a teacher with random weights, for measuring speed."""
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randint(0, 256, (samples, *shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    recipe = CIFAR_RECIPE if shape[1] == 32 else DIGITS_RECIPE
    plan = ViewPlan(recipe, views, SEED, samples)
    on_device = Samples(images.to(device), labels.to(device))
    preprocessing, origin = Preprocessing((0.5,) * shape[0], (0.25,) * shape[0]), ORIGIN | {"device": str(device)}
    dataset = Dataset(on_device, {}, plan, preprocessing, classes, origin=origin)
    named = {"images": f"synthetic: {samples:,} random images {shape}", "teacher": f"{model}, random weights"}
    return new_model(model, dataset, SEED).eval(), dataset, named

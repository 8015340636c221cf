"""Prepared data and logit stores, for tests that use them outside prepkd's own loop."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from prepkd.data.images.channels import channel_statistics
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.data.sources import SOURCES
from prepkd.data.sources.raw import RawData
from prepkd.models import Normalised, build_model
from prepkd.store import LogitStore
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.teacher.caching import first_batches, plan_store, teacher_answers
from prepkd.teacher.settings import Cache
from prepkd.views import ViewPlan


def write_data(path: Path, raw: RawData, *, val_fraction: float = 0.0, subset: int | None = None) -> Path:
    """Prepare data as `prepkd prepare` does."""
    prepare(raw, val_fraction=val_fraction, subset=subset, seed=0, path=path, replace=True)
    return path


def digits(path: Path) -> Path:
    """Prepare the real digits, 12 per class."""
    return write_data(path, SOURCES["digits"].read(Path()), subset=12)


def dataset_of(data: Path, recipe: list[Any], views: int | str, seed: int = 7) -> Dataset:
    """The data's training samples with a view plan of `recipe`."""
    train = load_split(data, "train")
    plan = ViewPlan(recipe, views, seed, len(train.labels))  # type: ignore[arg-type]
    statistics = Preprocessing.from_statistics(channel_statistics(train.images))
    return Dataset(Samples.of(train, torch.device("cpu")), {}, plan, statistics, len(describe(data).class_names))


def teacher_of(dataset: Dataset, seed: int = 11) -> Normalised:
    """An untrained teacher; its logits still differ between samples and between views."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = build_model("convnet4", dataset.classes, in_channels=dataset.samples.images.shape[1])
        model = Normalised(body, dataset.preprocessing)
        model(torch.rand(64, *dataset.samples.images.shape[1:]))  # moves the batch norms' statistics
    return model.eval()


def write_store(
    folder: Path, data: Path, dataset: Dataset, *, teacher: Normalised | None = None, encoding: str = "f16"
) -> LogitStore:
    """Write the teacher's logits for every view as `prepkd cache-logits` does, in chunks of 16 samples."""
    teacher = teacher or teacher_of(dataset)
    settings = Cache.model_validate(
        {
            "views": dataset.plan.views,
            "batch_size": 8,
            "chunk": 16,
            "encoding": encoding,
            "topk": {"k": 3},
            "sampled": {"n": 4},
        }
    )
    info = describe(data)
    inputs = {
        "dataset": info.dataset,
        "dataset_fingerprint": info.fingerprint,
        "split_fingerprint": info.split_fingerprints["train"],
        "device": "cpu",
    }
    card = {
        "name": "large",
        "model": "convnet4",
        "weights_fingerprint": "e" * 64,
        "preprocessing": {"mean": [0.3], "std": [0.4]},
    }
    return write_answers(folder, teacher, replace(dataset, origin=inputs), settings, card)


def write_answers(
    folder: Path,
    teacher: Normalised,
    dataset: Dataset,
    settings: Cache,
    card: dict[str, Any],
) -> LogitStore:
    """Write and open a store of the teacher's logits with these settings."""
    layout, attributes = plan_store(settings, dataset, card, first_batches(teacher, dataset, settings))
    writer = StoreWriter(open_place(folder, write=True), layout, attributes, folder)
    for view, chunk in writer.pending():
        part = layout.slice(chunk)
        writer.write(view, chunk, teacher_answers(teacher, dataset, layout.encoding, settings, view, part))
    writer.finish(dataset.labels)
    return LogitStore.open(folder)

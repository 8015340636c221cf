"""Prepared data and stores of it, for those who use them outside of prepkd's own loop."""

from pathlib import Path
from typing import Any

import torch
from prepkd.caching import make_trial, plan_store, teacher_answers
from prepkd.data import SOURCES, RawData, channel_statistics, describe, load_split, prepare
from prepkd.lesson import Lesson
from prepkd.models import Normalised, Preprocessing, build_model
from prepkd.params import Cache
from prepkd.samples import Samples
from prepkd.store import LogitStore
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.views import ViewPlan


def write_data(path: Path, raw: RawData, *, val_fraction: float = 0.0, subset: int | None = None) -> Path:
    """Prepare data, as `prepkd prepare` does."""
    prepare(raw, val_fraction=val_fraction, subset=subset, seed=0, path=path)
    return path


def digits(path: Path) -> Path:
    """The real digits, 12 a class."""
    return write_data(path, SOURCES["digits"](Path()), subset=12)


def lesson_of(data: Path, recipe: list[Any], views: int | str, seed: int = 7) -> Lesson:
    """The data's training samples under a plan."""
    train = load_split(data, "train")
    plan = ViewPlan(recipe, views, seed, len(train.labels))  # type: ignore[arg-type]
    statistics = Preprocessing.by(channel_statistics(train.images))
    return Lesson(Samples.of(train, torch.device("cpu")), {}, plan, statistics, len(describe(data).class_names))


def teacher_of(lesson: Lesson, seed: int = 11) -> Normalised:
    """A teacher that knows nothing: its answers differ from sample to sample and from view to view."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = build_model("convnet4", lesson.classes, in_channels=lesson.samples.images.shape[1])
        model = Normalised(body, lesson.preprocessing)
        model(torch.rand(64, *lesson.samples.images.shape[1:]))  # moves the batch norms' statistics
    return model.eval()


def write_store(
    folder: Path, data: Path, lesson: Lesson, *, teacher: Normalised | None = None, encoding: str = "f16"
) -> LogitStore:
    """The teacher's answers to every view, as `prepkd cache-logits` writes them; chunks of 16 samples."""
    teacher = teacher or teacher_of(lesson)
    settings = Cache.model_validate({"views": 1, "batch_size": 8, "chunk": 16, "encoding": encoding, "topk": {"k": 3}})
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
    layout, attributes, _ = plan_store(settings, lesson, inputs, card, make_trial(teacher, lesson, settings))
    writer = StoreWriter(open_place(folder, write=True), layout, attributes, folder)
    answers = teacher_answers(teacher, lesson, layout.encoding, settings)
    for view, chunk in writer.pending():
        writer.write(view, chunk, answers)
    writer.finish(lesson.samples.labels.numpy())
    return LogitStore.open(folder)

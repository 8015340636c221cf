"""Fixtures: a teacher and its stores, from which students are trained."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from elsewhere_files import write_answers
from prepkd.data.samples.dataset import Dataset
from prepkd.models import Normalised
from prepkd.store import LogitStore
from prepkd.training.teacher import train_teacher
from prepkd.training.teacher_settings import Teacher
from small_training import ORIGIN
from student_runs import CACHE, dataset_of


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Normalised:
    """A trained teacher that is right on a part of the samples."""
    chosen = Teacher(model="convnet8", epochs=3, batch_size=16, lr=0.05, precision="float32")
    folder = tmp_path_factory.mktemp("teacher")
    model, history = train_teacher(
        chosen, dataset_of("sampled"), checkpoint=folder / "checkpoint.pt", on_epoch=lambda row: None
    )
    assert 0.3 < history[-1]["train/top1"] < 0.97
    return model


@pytest.fixture(scope="session")
def store_of(teacher: Normalised, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Dataset], LogitStore]:
    """A function from a dataset to the teacher's store of its view plan; each store is written once."""
    stores: dict[str, LogitStore] = {}

    def store(dataset: Dataset) -> LogitStore:
        key = dataset.plan.fingerprint
        if key not in stores:
            card = {"name": "t", "model": "convnet8", "weights_fingerprint": "e" * 64, "preprocessing": {}}
            folder = tmp_path_factory.mktemp("stores") / "t.zarr"
            stores[key] = write_answers(folder, teacher, replace(dataset, origin=ORIGIN), CACHE, card)
        return stores[key]

    return store

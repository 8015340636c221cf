"""A teacher and its stores, from which students are trained."""

from collections.abc import Callable

import pytest
from prepkd.data.samples.dataset import Dataset
from prepkd.models import Normalised
from prepkd.store import LogitStore
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.teacher.caching import make_trial, plan_store, teacher_answers
from prepkd.training.teacher import train_teacher
from prepkd.training.teacher_settings import Teacher
from student_runs import CACHE, dataset_of


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Normalised:
    """Neither always right nor always wrong."""
    chosen = Teacher(model="convnet8", epochs=3, batch_size=16, lr=0.05, precision="float32")
    folder = tmp_path_factory.mktemp("teacher")
    model, history = train_teacher(
        chosen, dataset_of("sampled"), checkpoint=folder / "checkpoint.pt", on_epoch=lambda row: None
    )
    assert 0.3 < history[-1]["train/top1"] < 0.97
    return model


@pytest.fixture(scope="session")
def store_of(teacher: Normalised, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Dataset], LogitStore]:
    """The teacher's store for a dataset's plan, written once."""
    stores: dict[str, LogitStore] = {}

    def store(dataset: Dataset) -> LogitStore:
        key = dataset.plan.fingerprint
        if key not in stores:
            card = {"name": "t", "model": "convnet8", "weights_fingerprint": "e" * 64, "preprocessing": {}}
            inputs = {
                "dataset": "noise",
                "dataset_fingerprint": "d" * 64,
                "split_fingerprint": "5" * 64,
                "device": "cpu",
            }
            layout, attributes = plan_store(CACHE, dataset, inputs, card, make_trial(teacher, dataset, CACHE))
            folder = tmp_path_factory.mktemp("stores") / "t.zarr"
            writer = StoreWriter(open_place(folder, write=True), layout, attributes, folder)
            for view, chunk in writer.pending():
                part = layout.slice(chunk)
                writer.write(view, chunk, teacher_answers(teacher, dataset, layout.encoding, CACHE, view, part))
            writer.finish(dataset.labels)
            stores[key] = LogitStore.open(folder)
        return stores[key]

    return store

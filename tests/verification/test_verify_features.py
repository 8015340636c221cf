"""`prepkd verify` on feature stores: a correct store passes, a wrong store fails, a teacher without signal gives WITHHELD."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from cached_features import Teacher, run, settings
from prepkd import FeatureStore
from prepkd.errors import InputError
from prepkd.models.features import WithFeatures
from prepkd.models.new import new_model
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.teacher.feature_caching import feature_answers, plan_features
from prepkd.verification.live_teacher import verify_rows
from prepkd.verification.tables import discrepancy_table, notes
from small_training import DATASET

pytestmark = pytest.mark.usefixtures("one_thread", "hint")


@pytest.mark.parametrize("name", ["at", "ab", "hint", "pooled"])
def test_verify_passes_a_correct_store_and_its_controls_fail(name: str, feature_teacher: Teacher) -> None:
    store = FeatureStore.open(feature_teacher.cache().feature_url("t", name))
    found = verify_rows(store, feature_teacher.model, DATASET.samples, count=200, seed=1)
    assert found.verdict.name == "PASS", found.verdict
    assert set(found.measured.controls) == {
        "shuffled index",
        "inverted flip",
        "neighbouring view",
        "wrong normalisation",
    }
    assert not any(control.within for control in found.measured.controls.values())
    assert found.measured.teacher.excess == 0, "the same machine"
    json.dumps(found.as_json(), allow_nan=False)
    lines = "\n".join(notes(found))
    assert "as a share of the mean largest |value|" in lines
    assert discrepancy_table(found).row_count == 5


def test_verify_fails_a_store_of_another_teacher_and_of_wrong_rows(feature_teacher: Teacher, tmp_path: Path) -> None:
    store = FeatureStore.open(feature_teacher.cache().feature_url("t", "pooled"))
    other = new_model("resnet14", DATASET, 10)
    assert verify_rows(store, other, DATASET.samples, count=64, seed=1).verdict.name == "FAIL"
    entry = feature_teacher.entry("pooled")
    layout, attributes = plan_features(feature_teacher.cache(), DATASET, feature_teacher.loaded.describe(), entry)
    writer = StoreWriter(open_place(tmp_path / "wrong.zarr", write=True), layout, attributes, tmp_path)
    model = WithFeatures(feature_teacher.model, entry.features)
    for view, chunk in list(writer.pending()):
        part = layout.slice(chunk)
        writer.write(view, chunk, feature_answers(model, DATASET, entry, feature_teacher.cache(), (view + 1) % 9, part))
    writer.finish()
    verdict = verify_rows(
        FeatureStore.open(tmp_path / "wrong.zarr"), feature_teacher.model, DATASET.samples, count=64, seed=1
    ).verdict
    assert verdict.name == "FAIL" and "pooled differs by" in verdict.why
    # `distill` compares its first batch with the live teacher.
    shutil.copytree(tmp_path / "wrong.zarr", tmp_path / "features/t/pooled.zarr")
    with pytest.raises(InputError, match=r"samples 0 to 15: the live teacher's features are not the stored ones"):
        run(
            settings("hint"),
            feature_teacher.cache("pooled", features_root=str(tmp_path / "features")),
            feature_teacher,
            tmp_path / "run",
        )


def test_a_teacher_without_signal_withholds_the_verdict(feature_teacher: Teacher, tmp_path: Path) -> None:
    """The teacher's features are the same for every image."""
    dead = feature_teacher.model
    with torch.no_grad():
        for parameter in dead.body.parameters():
            parameter.zero_()
    entry = feature_teacher.entry("pooled")
    layout, attributes = plan_features(feature_teacher.cache(), DATASET, feature_teacher.loaded.describe(), entry)
    writer = StoreWriter(open_place(tmp_path / "dead.zarr", write=True), layout, attributes, tmp_path)
    for view, chunk in list(writer.pending()):
        writer.write(
            view,
            chunk,
            feature_answers(
                WithFeatures(dead.eval(), entry.features),
                DATASET,
                entry,
                feature_teacher.cache(),
                view,
                layout.slice(chunk),
            ),
        )
    writer.finish()
    store = FeatureStore.open(tmp_path / "dead.zarr")
    assert verify_rows(store, dead, DATASET.samples, count=64, seed=1).verdict.name == "WITHHELD"

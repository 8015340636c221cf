"""Cached features equal those of the live teacher, and interruptions do not change the bytes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cached_features import BATCH, Teacher, contents, settings
from prepkd import FeatureStore
from prepkd.errors import InputError
from prepkd.methods.entries import Entry
from prepkd.models.features import WithFeatures
from prepkd.store.destination import Destination
from prepkd.teacher.feature_caching import cache_features, store_cost
from small_training import DATASET

pytestmark = pytest.mark.usefixtures("one_thread", "hint")


def test_a_stored_entry_is_what_the_term_asks_of_the_live_teacher(feature_teacher: Teacher) -> None:
    store = FeatureStore.open(feature_teacher.cache().feature_url("t", "at"))
    assert store.tensors == {"at/stage1": (64,), "at/stage2": (16,), "at/stage3": (4,)}
    rows = torch.from_numpy(DATASET.plan.parameters(4, slice(0, BATCH)))
    chosen = torch.arange(BATCH)
    with torch.inference_mode():
        pixels = DATASET.samples.pixels(DATASET.plan, chosen, rows).contiguous(memory_format=torch.channels_last)
        live = WithFeatures(
            feature_teacher.model.eval().to(memory_format=torch.channels_last), ["stage1", "stage2", "stage3"]
        )(pixels)
        asked = feature_teacher.entry("at").teacher_tensors(live)
    found = store.features(4)
    assert {name: array.dtype.name for name, array in found.items()} == dict.fromkeys(store.tensors, "float16")
    for name, values in asked.items():
        assert np.array_equal(found[name][:BATCH], values.half().numpy())
    picked = store.lookup(np.array([4, 0, 4]), np.array([3, 2, 1]))
    assert np.array_equal(picked["at/stage2"][::2], found["at/stage2"][[3, 1]])
    assert np.array_equal(picked["at/stage2"][1], store.features(0)["at/stage2"][2])
    none = store.lookup(np.array([], int), np.array([], int))
    assert {name: array.shape for name, array in none.items()} == {name: (0, *s) for name, s in store.tensors.items()}
    pooled = FeatureStore.open(feature_teacher.cache().feature_url("t", "pooled"))
    assert pooled.tensors == {"pooled": (64,)} and pooled.features(0)["pooled"].dtype == np.float32


def test_a_rerun_and_a_killed_and_resumed_run_give_the_same_bytes(feature_teacher: Teacher, tmp_path: Path) -> None:
    expected = contents(Path(feature_teacher.cache().feature_url("t", "at")))
    assert len([key for key in expected if key.startswith("tensor0/c")]) == 9 * 3, "three chunks per view"
    again = feature_teacher.write("at", tmp_path / "scratch", tmp_path / "again.zarr")
    assert contents(again) == expected
    made: list[None] = []

    def stop() -> None:
        made.append(None)
        if len(made) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feature_teacher.write("at", tmp_path / "scratch", tmp_path / "cut.zarr", on_chunk=stop)
    assert not (tmp_path / "cut.zarr").exists()
    [growing] = (tmp_path / "scratch").glob("*/store.zarr")
    commits = sorted(growing.glob("tensor0/c/*/*/0"))
    assert 5 <= len(commits) < 27 and not (growing / "manifest.json").exists()
    for commit in commits:  # the other arrays' files are written before the commit record
        view, chunk = commit.parts[-3:-1]
        assert all((growing / f"{name}/c/{view}/{chunk}/0").is_file() for name in ("tensor1", "tensor2", "params"))
    (growing / "tensor1/c/0/1/0").write_bytes(b"torn")
    todo: list[int] = []
    feature_teacher.write(
        "at", tmp_path / "scratch", tmp_path / "cut.zarr", on_start=lambda work: todo.append(work.pending)
    )
    assert contents(tmp_path / "cut.zarr") == expected
    assert todo == [27 - len(commits) + 1]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut.zarr").rglob("*")}
    feature_teacher.write("at", tmp_path / "scratch", tmp_path / "cut.zarr", on_start=lambda work: todo.append(-1))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cut.zarr").rglob("*")} == before and todo[1:] == []


def test_another_entrys_store_and_foreign_files_are_not_replaced(feature_teacher: Teacher, tmp_path: Path) -> None:
    url = shutil.copytree(feature_teacher.cache().feature_url("t", "at"), tmp_path / "at.zarr")
    before = contents(url)
    with pytest.raises(
        InputError, match=r"holds another store, of teacher 't', .*different: asked, encoding\); --replace"
    ):
        feature_teacher.write("hint", tmp_path / "scratch", url)
    assert contents(url) == before
    feature_teacher.write("hint", tmp_path / "scratch", url, replace=True)
    assert FeatureStore.open(url).entry == "hint"
    (url / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt, which is no part of a store"):
        feature_teacher.write("hint", tmp_path / "scratch", url, replace=True)


def test_features_that_are_not_finite_are_refused(feature_teacher: Teacher, tmp_path: Path) -> None:
    broken = feature_teacher.model
    with torch.no_grad():
        next(broken.body.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="pooled: expected finite values, found others"):
        cache_features(
            replace(feature_teacher.loaded, model=broken),
            DATASET,
            feature_teacher.cache(),
            feature_teacher.entry("pooled"),
            Destination(str(tmp_path / "x.zarr"), tmp_path / "scratch", print),
        )


def test_an_entry_is_made_again_from_its_description(feature_teacher: Teacher) -> None:
    for name in ("at", "hint", "pooled"):
        entry = feature_teacher.entry(name)
        again = Entry.from_description(json.loads(json.dumps(entry.describe())), "here")
        assert again == entry and again.shapes == entry.shapes
    weight = settings("at", at={"weight": 5.0})
    assert feature_teacher.entry("at", weight).describe() == feature_teacher.entry("at").describe(), (
        "what the loss alone reads is left out"
    )
    for change, line in (
        ({"entry": "kd"}, "asked.entry is 'kd', which is no feature term"),
        ({"settings": {"stages": 3}}, "asked.settings"),
        ({"teacher": {"stem": [1]}}, "asked.teacher has other features than stage1, stage2, stage3"),
    ):
        with pytest.raises(InputError, match=line):
            Entry.from_description(feature_teacher.entry("at").describe() | change, "here")


def test_the_cost_is_one_line(feature_teacher: Teacher) -> None:
    assert store_cost(feature_teacher.entry("stage1"), 9, 70) == (
        "stage1: 9 views x 70 samples x 4,096 bytes = 2.6 MB, float32 (stage1 16x8x8)"
    )

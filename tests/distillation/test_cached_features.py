"""Students of cached features equal those of a live teacher; missing entries and entries of other features are refused."""

import json
import shutil
from pathlib import Path

import pytest
from cached_features import Teacher, run, settings
from prepkd import FeatureStore
from prepkd.errors import InputError
from prepkd.methods.entries import Entry
from prepkd.teacher.feature_caching import plan_features
from prepkd.teacher.settings import Cache
from small_training import DATASET, same, timeless

pytestmark = pytest.mark.usefixtures("one_thread", "hint")


@pytest.mark.parametrize(
    ("method", "entries"),
    [
        ("at", ["at"]),
        ("ka-ps+dtd-flsw+at", ["at", "pooled"]),
        ("kd+hint", ["hint"]),
        ("kd+hint", ["pooled"]),  # the term's tensors are computed from the stored feature
        ("at+hint", ["pooled", "at"]),
        ("ab", ["ab"]),
    ],
)
def test_cached_and_online_students_have_equal_weights(
    method: str, entries: list[str], feature_teacher: Teacher, tmp_path: Path
) -> None:
    chosen = settings(method)
    cached, history, card = run(chosen, feature_teacher.cache(*entries), feature_teacher, tmp_path / "cached")
    live, rows, _ = run(
        settings(method, source="online"), feature_teacher.cache(*entries), feature_teacher, tmp_path / "online"
    )
    assert same(cached, live) and timeless(history) == timeless(rows)
    used = set(card["inputs"]["teacher"]["t"]["features"])
    assert used == set(chosen.entries_read(entries)) and used <= set(entries)
    assert all(row[f"train/{name}"] > 0 for row in history for name in ("at", "ab", "hint") if name in method)


def test_random_views_read_resident_stores(feature_teacher: Teacher, tmp_path: Path) -> None:
    chosen = {"view_order": "random"}
    cached, _, _ = run(settings("kd+at", **chosen), feature_teacher.cache("at"), feature_teacher, tmp_path / "cached")
    live, _, _ = run(
        settings("kd+at", **chosen, source="online"), feature_teacher.cache("at"), feature_teacher, tmp_path / "online"
    )
    assert same(cached, live)
    with pytest.raises(InputError, match=r"t\.zarr, .*at\.zarr take.* GiB, distill\.resident_gib is 0;"):
        run(
            settings("kd+at", **chosen, resident_gib=0.0),
            feature_teacher.cache("at"),
            feature_teacher,
            tmp_path / "small",
        )


def test_adapters_resume_to_the_same_bits(feature_teacher: Teacher, tmp_path: Path) -> None:
    whole, history, _ = run(settings("hint"), feature_teacher.cache("hint"), feature_teacher, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(settings("hint"), feature_teacher.cache("hint"), feature_teacher, tmp_path / "cut", stop=0)
    resumed, rows, _ = run(settings("hint"), feature_teacher.cache("hint"), feature_teacher, tmp_path / "cut")
    assert same(resumed, whole) and timeless(rows) == timeless(history)


def test_the_teachers_folder_is_not_needed(feature_teacher: Teacher, tmp_path: Path) -> None:
    """The store holds the teacher's feature shapes, which the adapters need."""
    here, _, _ = run(settings("hint"), feature_teacher.cache("hint"), feature_teacher, tmp_path / "here")
    away = Teacher(shutil.copytree(feature_teacher.root, tmp_path / "away"))
    shutil.rmtree(away.folder)
    without, _, _ = run(settings("hint"), away.cache("hint"), away, tmp_path / "without")
    assert same(here, without)


@pytest.mark.parametrize(
    ("method", "entries", "line"),
    [
        (
            "kd+at",
            [],
            "method kd+at needs features of teacher 't' that are not cached (at: 9 views x 70 samples x 168 bytes = 0.1 MB, "
            "float16 (at/stage1 64, at/stage2 16, at/stage3 4)); add at to cache.features and run "
            "`prepkd cache-features t`, or set distill.source: online",
        ),
        (
            "at+hint",
            ["stage1", "at"],
            "method at+hint needs features of teacher 't' that are not cached (hint: 9 views x 70 samples x 256 bytes = "
            "0.2 MB, float32 (hint/pooled 64)); add hint to cache.features and run `prepkd cache-features t`, or set "
            "distill.source: online",
        ),
    ],
)
def test_what_is_not_cached_is_named_with_its_bytes(
    method: str, entries: list[str], line: str, feature_teacher: Teacher, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        run(settings(method), feature_teacher.cache(*entries), feature_teacher, tmp_path)
    assert str(caught.value) == line


def test_an_entry_that_is_listed_and_not_there_is_to_be_cached(feature_teacher: Teacher, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"\(at: .* bytes = .*\); run `prepkd cache-features t`, or set distill\.source"
    ):
        run(settings("at"), feature_teacher.cache("at", features_root=str(tmp_path)), feature_teacher, tmp_path)


def test_a_store_for_another_map_size_or_of_other_stages_is_refused(feature_teacher: Teacher, tmp_path: Path) -> None:
    """The stages and the map size that the student needs are part of the store's fingerprint."""
    wide = settings("at", student="convnet4", at={"stages": ["stage1"]})
    with pytest.raises(InputError, match=r"at\.zarr: asked\.teacher has stage1, stage2, stage3, other features than"):
        run(settings("at", at={"stages": ["stage1"]}), feature_teacher.cache("at"), feature_teacher, tmp_path)
    url = Path(Cache(views=9, features_root=str(tmp_path / "other")).feature_url("t", "at"))
    own = settings("at", at={"stages": ["stage1"]})
    feature_teacher.write("at", tmp_path / "scratch", url, settings=own)
    description = json.loads((url / "zarr.json").read_text())
    assert description["attributes"]["prepkd"]["asked"]["sizes"] == {"stage1": [8, 8]}
    small = feature_teacher.entry("at", own)
    assert (
        plan_features(
            feature_teacher.cache(),
            DATASET,
            feature_teacher.loaded.describe(),
            Entry(small.name, small.term, {"stage1": (4, 4)}, small.teacher),
        )[1].fingerprints["asked"]
        != FeatureStore.open(url).attributes.fingerprints["asked"]
    )
    assert wide.features_read == ("stage1",)

"""Stores of features: damage and crafted descriptions are refused, views are fetched, bits are kept as bits."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached_features import Teacher, contents, run, settings
from prepkd import FeatureStore, LogitStore
from prepkd.catalogue.requirements import Pair, feature_cost
from prepkd.errors import InputError
from prepkd.methods import terms
from prepkd.models.new import untrained_model
from prepkd.provenance.stores import check_pixels, check_teacher
from prepkd.store import AnswerStore
from prepkd.store.fetch import fetch_views, open_source
from prepkd.store.integrity import damages
from prepkd.teacher.feature_caching import feature_encoding
from small_training import DATASET, same
from store_checks import refused
from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread", "hint")


def swap(folder: Path) -> None:
    one, other = folder / "tensor1/c/0/0/0", folder / "tensor1/c/1/0/0"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def flip(folder: Path) -> None:
    path = folder / "tensor0/c/0/0/0"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


DAMAGE = {
    "flipped": (flip, ["tensor0/c/0/0/0"]),
    "swapped": (swap, ["tensor1/c/0/0/0", "tensor1/c/1/0/0"]),
    "missing": (lambda folder: (folder / "tensor2/c/0/2/0").unlink(), ["tensor2/c/0/2/0"]),
    "empty": (lambda folder: (folder / "tensor2/c/0/2/0").write_bytes(b""), ["tensor2/c/0/2/0"]),
    "description": (lambda folder: (folder / "tensor1/zarr.json").write_text("{}"), ["tensor1/zarr.json"]),
    "attributes": (lambda folder: (folder / "zarr.json").write_text("{}"), ["zarr.json"]),
    "summary": (lambda folder: (folder / "summary.json").write_text("{}"), ["summary.json"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_refused(name: str, feature_teacher: Teacher, tmp_path: Path) -> None:
    folder = shutil.copytree(feature_teacher.cache().feature_url("t", "at"), tmp_path / "features" / "t" / "at.zarr")
    assert damages(folder) == []
    damage, named = DAMAGE[name]
    damage(folder)
    assert [one.chunk for one in damages(folder)] == named
    with pytest.raises(InputError, match=named[0]):
        for view in range(9):
            FeatureStore.open(folder).features(view)
    with pytest.raises(InputError):  # training reads every view at once
        run(
            settings("at", view_order="random"),
            feature_teacher.cache("at", features_root=str(tmp_path / "features")),
            feature_teacher,
            tmp_path,
        )


CRAFTED = {
    "encoding.tensors": (
        {"encoding": {"name": "tensors", "tensors": [{"name": "a", "shape": [2**30], "dtype": "float16"}]}}
    ),
    "above 0": ({"encoding": {"name": "tensors", "tensors": [{"name": "a", "shape": [-1], "dtype": "float16"}]}}),
    "dtype": ({"encoding": {"name": "tensors", "tensors": [{"name": "a", "shape": [1], "dtype": "object"}]}}),
    "different names": (
        {"encoding": {"name": "tensors", "tensors": [{"name": "a", "shape": [1], "dtype": "float16"}] * 2}}
    ),
    "1 to 64 tensors": ({"encoding": {"name": "tensors", "tensors": []}}),
    "expected a list": ({"encoding": {"name": "tensors"}}),
    "the keys": ({"encoding": {"name": "tensors", "tensors": [["a"]]}}),
    "only stores of features have `asked`": ({"asked": None}),
    "asked.entry": ({"asked": {"entry": "../x", "settings": None, "sizes": {}, "teacher": {"x": [1]}}}),
    "asked.sizes": ({"asked": {"entry": "x", "settings": None, "sizes": {"x": [0]}, "teacher": {"x": [1]}}}),
    "holds a logit store, expected a store of features": ({"encoding": {"name": "f16"}, "asked": None}),
}


@pytest.mark.parametrize("expected", CRAFTED)
def test_a_crafted_description_is_refused_before_a_chunk_is_read(
    expected: str, feature_teacher: Teacher, tmp_path: Path
) -> None:
    folder = shutil.copytree(feature_teacher.cache().feature_url("t", "at"), tmp_path / "at.zarr")
    described = json.loads((folder / "zarr.json").read_text())
    changed = described["attributes"]["prepkd"] | CRAFTED[expected]
    described["attributes"]["prepkd"] = {key: value for key, value in changed.items() if value is not None}
    (folder / "zarr.json").write_text(json.dumps(described))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["zarr.json"] = hashlib.sha256((folder / "zarr.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(folder / "tensor0" / "c")
    with pytest.raises(InputError) as caught:
        FeatureStore.open(folder)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_logits_and_features_are_not_taken_for_each_other(feature_teacher: Teacher) -> None:
    with pytest.raises(InputError, match="holds a store of features, expected a logit store"):
        LogitStore.open(feature_teacher.cache().feature_url("t", "at"))
    assert isinstance(AnswerStore.open(feature_teacher.root / "t.zarr"), LogitStore)
    assert isinstance(AnswerStore.open(feature_teacher.cache().feature_url("t", "at")), FeatureStore)


def test_other_files_than_the_stores_name_its_own_command(feature_teacher: Teacher) -> None:
    store = FeatureStore.open(feature_teacher.cache().feature_url("t", "at"))
    card = {"weights_fingerprint": "0" * 64, "model": "resnet14", "preprocessing": {}}
    assert refused(InputError, check_teacher, store, card, "t").endswith("run `prepkd cache-features t` again")
    images = DATASET.samples.images
    assert isinstance(images, Tensor)
    others = replace(DATASET.samples, images=255 - images)
    assert refused(InputError, check_pixels, store, others).endswith("rendered differently; run cache-features again")
    store.attributes = store.attributes.model_copy(update={"pixels": None})
    expected = f"{store.url}: records no hash of its pixels; run cache-features again"
    assert refused(InputError, check_pixels, store, DATASET.samples) == expected


def test_views_are_fetched_and_a_copy_trains_on_them(feature_teacher: Teacher, tmp_path: Path) -> None:
    source, target = feature_teacher.cache().feature_url("t", "at"), tmp_path / "features/t/at.zarr"

    def fetch(views: str | None) -> Any:
        return fetch_views(open_source(source), str(target), views, tmp_path, on_wait=print)

    assert fetch("0:2").views == [0, 1]
    assert FeatureStore.open(target).present == [0, 1] and damages(target) == []
    with pytest.raises(InputError, match=r"view 5 was not fetched"):
        FeatureStore.open(target).features(5)
    cache = feature_teacher.cache("at", features_root=str(tmp_path / "features"))
    with pytest.raises(InputError, match=r"at\.zarr: \d of the \d views that training shows were not fetched"):
        run(settings("at", epochs=5), cache, feature_teacher, tmp_path / "part")
    fetch(None)
    assert contents(target) == contents(Path(source))
    here, _, _ = run(settings("at"), cache, feature_teacher, tmp_path / "copy")
    there, _, _ = run(settings("at"), feature_teacher.cache("at"), feature_teacher, tmp_path / "own")
    assert same(here, there)


def test_bits_are_stored_as_bits_and_the_list_of_methods_states_the_bytes(feature_teacher: Teacher) -> None:
    store = FeatureStore.open(feature_teacher.cache().feature_url("t", "ab"))
    assert store.encoding.fields["tensor0"].dtype == np.uint8
    assert {float(value) for values in store.features(0).values() for value in np.unique(values)} == {0.0, 1.0}
    student = untrained_model("resnet8", DATASET)
    models = Pair(feature_teacher.model, student, DATASET.samples.size, samples=70, views=9, described="")
    for name in ("at", "ab", "hint"):
        encoding = feature_encoding(feature_teacher.entry(name))
        stated = feature_cost(settings(name).configured(terms.TERMS[name]), models).bytes
        assert stated == {one.name: one.bytes_per_row for one in encoding.tensors}

"""Features from a cache: stores of what terms ask, written, resumed, checked; students equal those of a live teacher."""

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepkd import FeatureStore, LogitStore
from prepkd.catalogue.requirements import Pair, asked
from prepkd.data.samples.dataset import Dataset
from prepkd.display.console import TextConsole
from prepkd.distillation.distill import distill
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.inspection.inspect import inspect_store
from prepkd.inspection.tables import tables
from prepkd.methods import terms
from prepkd.methods.entries import Entry, make_entries
from prepkd.methods.term import FeatureTerm, Shapes, State
from prepkd.models import Normalised, save_checkpoint
from prepkd.models.checkpoint import load_checkpoint
from prepkd.models.features import Answers, WithFeatures
from prepkd.models.new import new_model, untrained_model
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.store import AnswerStore
from prepkd.store.fetch import fetch_views
from prepkd.store.integrity import damages
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.teacher.caching import cache_logits
from prepkd.teacher.feature_caching import cache_features, cost, encoding_of, feature_answers, plan_features
from prepkd.teacher.settings import Cache
from prepkd.training.checkpoints import Row
from prepkd.verification.live_teacher import verify_rows
from prepkd.verification.tables import discrepancy_table, notes
from small_training import CLASSES, DATASET, same, timeless
from torch import Tensor, nn

INPUTS = {"dataset": "noise", "dataset_fingerprint": "d" * 64, "split_fingerprint": "5" * 64, "device": "cpu"}
BATCH = 16


pytestmark = pytest.mark.usefixtures("one_thread")


class Hint(FeatureTerm):
    """A test's own term: a linear map of the student's pooled features, scaled, is drawn to the teacher's."""

    name = "hint"
    source = "this test"
    weight: float = 2.0

    @property
    def features(self) -> tuple[str, ...]:
        return ("pooled",)

    def asks(self, features: Answers, other: Shapes) -> Answers:
        pooled = features["pooled"].float()
        return {"hint/pooled": pooled / (1 + pooled.norm(dim=1, keepdim=True))}

    def adapter(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        return nn.Linear(student["pooled"][0], teacher["pooled"][0])

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        assert state.adapter is not None and teacher["hint/pooled"].dtype == torch.float32
        return (state.adapter(student["hint/pooled"]) - teacher["hint/pooled"]).square().mean(dim=1)


@pytest.fixture(scope="module", autouse=True)
def hint() -> Iterator[None]:
    """One entry in the dict of terms, and the method is known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(terms.TERMS, "hint", Hint)
        yield


def settings(method: str, **changes: Any) -> Distill:
    small = {"teacher": "t", "student": "resnet8", "epochs": 2, "method": method, "source": "cached", "batch_size": 16}
    wanted = small | {"precision": "float32", "lr": 0.05, "seeds": 1, "checkpoint_every": 1} | changes
    return Distill.model_validate(wanted)


@dataclass(frozen=True)
class Teacher:
    """A teacher's folder, and the root of its stores."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "t"

    @property
    def card(self) -> dict[str, Any]:
        return load_checkpoint(self.folder)[1] | {"name": "t"}

    @property
    def model(self) -> Normalised:
        return load_checkpoint(self.folder)[0]

    def cache(self, *entries: str, **changes: Any) -> Cache:
        wanted = {"views": 9, "batch_size": BATCH, "chunk": 32, "features": list(entries)}
        return Cache.model_validate(wanted | {"features_root": str(self.root / "features")} | changes)

    def entry(self, name: str, chosen: Distill | None = None, dataset: Dataset = DATASET) -> Entry:
        chosen = chosen or settings("at")
        student = untrained_model(chosen.student, dataset)
        [entry] = make_entries(chosen.entry_terms([name]), student, self.model, dataset.samples.size)
        return entry

    def write(self, name: str, scratch: Path, url: Path | None = None, **options: Any) -> Path:
        """The store of an entry."""
        place = url or Path(self.cache(name).feature_url("t", name))
        chosen = options.pop("settings", None)
        made = {"replace": False, "on_wait": print} | options
        cache_features(
            self.model,
            self.card,
            DATASET,
            INPUTS,
            self.cache(name),
            self.entry(name, chosen),
            str(place),
            scratch,
            **made,
        )
        return place


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A teacher, its logits, and four entries: terms with maps and with bits, a term and a feature of vectors."""
    made = Teacher(tmp_path_factory.mktemp("teacher"))
    model = new_model("resnet14", DATASET, 9)
    save_checkpoint(made.folder, model, {"model": "resnet14", "num_classes": CLASSES, "in_channels": 1})
    cache_logits(
        made.model,
        made.card,
        DATASET,
        INPUTS,
        made.cache(),
        str(made.root / "t.zarr"),
        made.root / "scratch",
        on_wait=print,
    )
    for name in ("at", "ab", "hint", "pooled"):
        made.write(name, made.root / "scratch")
    return made


def run(
    chosen: Distill, cache: Cache, teacher: Teacher, folder: Path, *, stop: int | None = None
) -> tuple[dict[str, Tensor], list[Row], dict[str, Any]]:
    """The student's weights, its history and card."""

    def on_epoch(seed: int, row: Row) -> None:
        if row["epoch"] == stop:
            raise KeyboardInterrupt

    with distill(
        chosen,
        cache,
        DATASET,
        INPUTS,
        {"t": TeacherFiles(teacher.folder, str(teacher.root / "t.zarr"), None, "prepkd train-teacher t")},
        scratch=lambda fingerprint: nullcontext(folder / fingerprint),
        on_epoch=on_epoch,
        logged=lambda described: nullcontext(lambda row: None),
    ) as trained:
        [(_, model, history, card)] = trained
    return model.state_dict(), history, card


@pytest.mark.parametrize(
    ("method", "entries"),
    [
        ("at", ["at"]),
        ("ka-ps+dtd-flsw+at", ["at", "pooled"]),
        ("kd+hint", ["hint"]),
        ("kd+hint", ["pooled"]),  # made from the feature that the term reads
        ("at+hint", ["pooled", "at"]),
        ("ab", ["ab"]),
    ],
)
def test_cached_and_online_students_have_equal_weights(
    method: str, entries: list[str], teacher: Teacher, tmp_path: Path
) -> None:
    chosen = settings(method)
    cached, history, card = run(chosen, teacher.cache(*entries), teacher, tmp_path / "cached")
    live, rows, _ = run(settings(method, source="online"), teacher.cache(*entries), teacher, tmp_path / "online")
    assert same(cached, live) and timeless(history) == timeless(rows)
    used = set(card["inputs"]["teacher"]["t"]["features"])
    assert used == set(chosen.entries_read(entries)) and used <= set(entries)
    assert all(row[f"train/{name}"] > 0 for row in history for name in ("at", "ab", "hint") if name in method)


def test_a_stored_entry_is_what_the_term_asks_of_the_live_teacher(teacher: Teacher) -> None:
    store = FeatureStore.open(teacher.cache().feature_url("t", "at"))
    assert store.tensors == {"at/stage1": (64,), "at/stage2": (16,), "at/stage3": (4,)}
    rows = torch.from_numpy(DATASET.plan.parameters(4, slice(0, BATCH)))
    chosen = torch.arange(BATCH)
    with torch.inference_mode():
        pixels = DATASET.samples.pixels(DATASET.plan, chosen, rows).contiguous(memory_format=torch.channels_last)
        live = WithFeatures(teacher.model.eval().to(memory_format=torch.channels_last), ["stage1", "stage2", "stage3"])(
            pixels
        )
        asked = teacher.entry("at").asks(live)
    found = store.features(4)
    assert {name: array.dtype.name for name, array in found.items()} == dict.fromkeys(store.tensors, "float16")
    for name, values in asked.items():
        assert np.array_equal(found[name][:BATCH], values.half().numpy())
    picked = store.lookup(np.array([4, 0, 4]), np.array([3, 2, 1]))
    assert np.array_equal(picked["at/stage2"][::2], found["at/stage2"][[3, 1]])
    assert np.array_equal(picked["at/stage2"][1], store.features(0)["at/stage2"][2])
    pooled = FeatureStore.open(teacher.cache().feature_url("t", "pooled"))
    assert pooled.tensors == {"pooled": (64,)} and pooled.features(0)["pooled"].dtype == np.float32


def test_random_views_read_resident_stores(teacher: Teacher, tmp_path: Path) -> None:
    chosen = {"view_order": "random"}
    cached, _, _ = run(settings("kd+at", **chosen), teacher.cache("at"), teacher, tmp_path / "cached")
    live, _, _ = run(settings("kd+at", **chosen, source="online"), teacher.cache("at"), teacher, tmp_path / "online")
    assert same(cached, live)
    with pytest.raises(InputError, match=r"t\.zarr, .*at\.zarr take.* GiB, distill\.resident_gib is 0;"):
        run(settings("kd+at", **chosen, resident_gib=0.0), teacher.cache("at"), teacher, tmp_path / "small")


def test_adapters_resume_to_the_same_bits(teacher: Teacher, tmp_path: Path) -> None:
    whole, history, _ = run(settings("hint"), teacher.cache("hint"), teacher, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(settings("hint"), teacher.cache("hint"), teacher, tmp_path / "cut", stop=0)
    resumed, rows, _ = run(settings("hint"), teacher.cache("hint"), teacher, tmp_path / "cut")
    assert same(resumed, whole) and timeless(rows) == timeless(history)


def test_the_teachers_folder_is_not_needed(teacher: Teacher, tmp_path: Path) -> None:
    """Its shapes, from which adapters are made, are in the store."""
    here, _, _ = run(settings("hint"), teacher.cache("hint"), teacher, tmp_path / "here")
    away = Teacher(shutil.copytree(teacher.root, tmp_path / "away"))
    shutil.rmtree(away.folder)
    without, _, _ = run(settings("hint"), away.cache("hint"), away, tmp_path / "without")
    assert same(here, without)


@pytest.mark.parametrize(
    ("method", "entries", "line"),
    [
        (
            "kd+at",
            [],
            "method kd+at asks features of teacher 't' that are not cached (at: 9 views x 70 samples x 168 bytes = 0.1 MB, "
            "float16 (at/stage1 64, at/stage2 16, at/stage3 4)); add at to cache.features and run "
            "`prepkd cache-features t`, or set distill.source: online",
        ),
        (
            "at+hint",
            ["stage1", "at"],
            "method at+hint asks features of teacher 't' that are not cached (hint: 9 views x 70 samples x 256 bytes = "
            "0.2 MB, float32 (hint/pooled 64)); add hint to cache.features and run `prepkd cache-features t`, or set "
            "distill.source: online",
        ),
    ],
)
def test_what_is_not_cached_is_named_with_its_bytes(
    method: str, entries: list[str], line: str, teacher: Teacher, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        run(settings(method), teacher.cache(*entries), teacher, tmp_path)
    assert str(caught.value) == line


def test_an_entry_that_is_listed_and_not_there_is_to_be_cached(teacher: Teacher, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"\(at: .* bytes = .*\); run `prepkd cache-features t`, or set distill\.source"
    ):
        run(settings("at"), teacher.cache("at", features_root=str(tmp_path)), teacher, tmp_path)


def test_a_store_for_another_map_size_or_of_other_stages_is_refused(teacher: Teacher, tmp_path: Path) -> None:
    """The size that the student needs is part of what is asked."""
    wide = settings("at", student="convnet4", at={"stages": ["stage1"]})
    with pytest.raises(InputError, match=r"at\.zarr: asked\.teacher has stage1, stage2, stage3, other features than"):
        run(settings("at", at={"stages": ["stage1"]}), teacher.cache("at"), teacher, tmp_path)
    url = Path(Cache(views=9, features_root=str(tmp_path / "other")).feature_url("t", "at"))
    own = settings("at", at={"stages": ["stage1"]})
    teacher.write("at", tmp_path / "scratch", url, settings=own)
    description = json.loads((url / "zarr.json").read_text())
    assert description["attributes"]["prepkd"]["asked"]["sizes"] == {"stage1": [8, 8]}
    small = teacher.entry("at", own)
    assert (
        plan_features(
            teacher.cache(),
            DATASET,
            INPUTS,
            teacher.card,
            Entry(small.name, small.term, {"stage1": (4, 4)}, small.teacher),
        )[1].fingerprints["asked"]
        != FeatureStore.open(url).attributes.fingerprints["asked"]
    )
    assert wide.features_read == ("stage1",)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_rerun_and_a_killed_and_resumed_run_give_the_same_bytes(teacher: Teacher, tmp_path: Path) -> None:
    expected = contents(Path(teacher.cache().feature_url("t", "at")))
    assert len([key for key in expected if key.startswith("tensor0/c")]) == 9 * 3, "three chunks per view"
    again = teacher.write("at", tmp_path / "scratch", tmp_path / "again.zarr")
    assert contents(again) == expected
    made: list[None] = []

    def stop() -> None:
        made.append(None)
        if len(made) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teacher.write("at", tmp_path / "scratch", tmp_path / "cut.zarr", on_chunk=stop)
    assert not (tmp_path / "cut.zarr").exists()
    [growing] = (tmp_path / "scratch").glob("*/store.zarr")
    commits = sorted(growing.glob("tensor0/c/*/*/0"))
    assert 5 <= len(commits) < 27 and not (growing / "manifest.json").exists()
    for commit in commits:  # the other arrays' files were there first
        view, chunk = commit.parts[-3:-1]
        assert all((growing / f"{name}/c/{view}/{chunk}/0").is_file() for name in ("tensor1", "tensor2", "params"))
    (growing / "tensor1/c/0/1/0").write_bytes(b"torn")
    todo: list[int] = []
    teacher.write("at", tmp_path / "scratch", tmp_path / "cut.zarr", on_start=lambda work: todo.append(work.pending))
    assert contents(tmp_path / "cut.zarr") == expected
    assert todo == [27 - len(commits) + 1]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut.zarr").rglob("*")}
    teacher.write("at", tmp_path / "scratch", tmp_path / "cut.zarr", on_start=lambda work: todo.append(-1))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cut.zarr").rglob("*")} == before and todo[1:] == []


def test_another_entrys_store_and_foreign_files_are_not_replaced(teacher: Teacher, tmp_path: Path) -> None:
    url = shutil.copytree(teacher.cache().feature_url("t", "at"), tmp_path / "at.zarr")
    before = contents(url)
    with pytest.raises(
        InputError, match=r"holds another store, of teacher 't', .*different: asked, encoding\); --replace"
    ):
        teacher.write("hint", tmp_path / "scratch", url)
    assert contents(url) == before
    teacher.write("hint", tmp_path / "scratch", url, replace=True)
    assert FeatureStore.open(url).entry == "hint"
    (url / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt, which is no part of a store"):
        teacher.write("hint", tmp_path / "scratch", url, replace=True)


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
def test_damage_is_named_and_refused(name: str, teacher: Teacher, tmp_path: Path) -> None:
    folder = shutil.copytree(teacher.cache().feature_url("t", "at"), tmp_path / "features" / "t" / "at.zarr")
    assert damages(folder) == []
    damage, named = DAMAGE[name]
    damage(folder)
    assert [one.chunk for one in damages(folder)] == named
    with pytest.raises(InputError, match=named[0]):
        for view in range(9):
            FeatureStore.open(folder).features(view)
    with pytest.raises(InputError):  # reads every view at once
        run(
            settings("at", view_order="random"),
            teacher.cache("at", features_root=str(tmp_path / "features")),
            teacher,
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
    "asked is of stores of features": ({"asked": None}),
    "asked.entry": ({"asked": {"entry": "../x", "settings": None, "sizes": {}, "teacher": {"x": [1]}}}),
    "asked.sizes": ({"asked": {"entry": "x", "settings": None, "sizes": {"x": [0]}, "teacher": {"x": [1]}}}),
    "holds a logit store, expected a store of features": ({"encoding": {"name": "f16"}, "asked": None}),
}


@pytest.mark.parametrize("expected", CRAFTED)
def test_a_crafted_description_is_refused_before_a_chunk_is_read(
    expected: str, teacher: Teacher, tmp_path: Path
) -> None:
    folder = shutil.copytree(teacher.cache().feature_url("t", "at"), tmp_path / "at.zarr")
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


def test_logits_and_features_are_not_taken_for_each_other(teacher: Teacher) -> None:
    with pytest.raises(InputError, match="holds a store of features, expected a logit store"):
        LogitStore.open(teacher.cache().feature_url("t", "at"))
    assert isinstance(AnswerStore.open(teacher.root / "t.zarr"), LogitStore)
    assert isinstance(AnswerStore.open(teacher.cache().feature_url("t", "at")), FeatureStore)


@pytest.mark.parametrize("name", ["at", "ab", "hint", "pooled"])
def test_verify_passes_a_correct_store_and_its_controls_fail(name: str, teacher: Teacher) -> None:
    store = FeatureStore.open(teacher.cache().feature_url("t", name))
    found = verify_rows(store, teacher.model, DATASET.samples, count=200, seed=1)
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


def test_verify_fails_a_store_of_another_teacher_and_of_wrong_rows(teacher: Teacher, tmp_path: Path) -> None:
    store = FeatureStore.open(teacher.cache().feature_url("t", "pooled"))
    other = new_model("resnet14", DATASET, 10)
    assert verify_rows(store, other, DATASET.samples, count=64, seed=1).verdict.name == "FAIL"
    entry = teacher.entry("pooled")
    layout, attributes = plan_features(teacher.cache(), DATASET, INPUTS, teacher.card, entry)
    writer = StoreWriter(open_place(tmp_path / "wrong.zarr", write=True), layout, attributes, tmp_path)
    model = WithFeatures(teacher.model, entry.features)
    for view, chunk in list(writer.pending()):
        part = layout.slice(chunk)
        writer.write(view, chunk, feature_answers(model, DATASET, entry, teacher.cache(), (view + 1) % 9, part))
    writer.finish()
    verdict = verify_rows(
        FeatureStore.open(tmp_path / "wrong.zarr"), teacher.model, DATASET.samples, count=64, seed=1
    ).verdict
    assert verdict.name == "FAIL" and "pooled differs by" in verdict.why
    # `distill` compares its first batch.
    shutil.copytree(tmp_path / "wrong.zarr", tmp_path / "features/t/pooled.zarr")
    with pytest.raises(InputError, match=r"samples 0 to 15: the live teacher's features are not the stored ones"):
        run(
            settings("hint"),
            teacher.cache("pooled", features_root=str(tmp_path / "features")),
            teacher,
            tmp_path / "run",
        )


def test_a_teacher_without_signal_withholds_the_verdict(teacher: Teacher, tmp_path: Path) -> None:
    """Its features are the same for every image."""
    dead = teacher.model
    with torch.no_grad():
        for parameter in dead.body.parameters():
            parameter.zero_()
    entry = teacher.entry("pooled")
    layout, attributes = plan_features(teacher.cache(), DATASET, INPUTS, teacher.card, entry)
    writer = StoreWriter(open_place(tmp_path / "dead.zarr", write=True), layout, attributes, tmp_path)
    for view, chunk in list(writer.pending()):
        writer.write(
            view,
            chunk,
            feature_answers(
                WithFeatures(dead.eval(), entry.features), DATASET, entry, teacher.cache(), view, layout.slice(chunk)
            ),
        )
    writer.finish()
    store = FeatureStore.open(tmp_path / "dead.zarr")
    assert verify_rows(store, dead, DATASET.samples, count=64, seed=1).verdict.name == "WITHHELD"


def test_features_that_are_not_finite_are_refused(teacher: Teacher, tmp_path: Path) -> None:
    broken = teacher.model
    with torch.no_grad():
        next(broken.body.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="pooled: expected finite values, found others"):
        cache_features(
            broken,
            teacher.card,
            DATASET,
            INPUTS,
            teacher.cache(),
            teacher.entry("pooled"),
            str(tmp_path / "x.zarr"),
            tmp_path / "scratch",
            on_wait=print,
        )


def test_views_are_fetched_and_a_copy_trains_on_them(teacher: Teacher, tmp_path: Path) -> None:
    source, target = teacher.cache().feature_url("t", "at"), tmp_path / "features/t/at.zarr"

    def fetch(views: str | None) -> Any:
        return fetch_views(
            source,
            lambda store: str(target),
            views,
            tmp_path,
            on_wait=print,
            on_start=lambda *_: None,
            on_file=lambda: None,
        )

    assert fetch("0:2").views == [0, 1]
    assert FeatureStore.open(target).present == [0, 1] and damages(target) == []
    with pytest.raises(InputError, match=r"view 5 was not fetched"):
        FeatureStore.open(target).features(5)
    cache = teacher.cache("at", features_root=str(tmp_path / "features"))
    with pytest.raises(InputError, match=r"at\.zarr: \d of the \d views that training shows were not fetched"):
        run(settings("at", epochs=5), cache, teacher, tmp_path / "part")
    fetch(None)
    assert contents(target) == contents(Path(source))
    here, _, _ = run(settings("at"), cache, teacher, tmp_path / "copy")
    there, _, _ = run(settings("at"), teacher.cache("at"), teacher, tmp_path / "own")
    assert same(here, there)


def test_an_inspection_describes_entry_and_tensors(teacher: Teacher, tmp_path: Path) -> None:
    url = teacher.cache().feature_url("t", "at")
    found = inspect_store(
        url,
        data=None,
        views=None,
        tau=4.0,
        student=None,
        distill=lambda: None,
        teachers=tmp_path,
        datasets=tmp_path,
        out=tmp_path,
    )
    assert found.features and [one.name for one in found.features.tensors] == ["at/stage1", "at/stage2", "at/stage3"]
    store = FeatureStore.open(url)
    values = np.stack([store.features(view)["at/stage3"].astype(np.float64) for view in found.features.views_read])
    third = found.features.tensors[2]
    assert third.mean == pytest.approx(values.mean()) and third.std == pytest.approx(values.std())
    assert third.max == max(store.features(view)["at/stage3"].max() for view in range(9))
    json.dumps(found.as_json(), allow_nan=False)
    out = TextConsole(record=True, width=100, file=io.StringIO())
    out.print(tables(found))
    text = out.export_text()
    for phrase in ("entry", "at/stage1", "8 x 8", "stages ['stage1', 'stage2', 'stage3']", "float16", "stated"):
        assert phrase in text, text


def test_an_entry_is_made_again_from_its_description(teacher: Teacher) -> None:
    for name in ("at", "hint", "pooled"):
        entry = teacher.entry(name)
        again = Entry.from_description(json.loads(json.dumps(entry.describe())), "here")
        assert again == entry and again.shapes == entry.shapes
    weight = settings("at", at={"weight": 5.0})
    assert teacher.entry("at", weight).describe() == teacher.entry("at").describe(), (
        "what the loss alone reads is left out"
    )
    for change, line in (
        ({"entry": "kd"}, "asked.entry is 'kd', which is no feature term"),
        ({"settings": {"stages": 3}}, "asked.settings"),
        ({"teacher": {"stem": [1]}}, "asked.teacher has other features than stage1, stage2, stage3"),
    ):
        with pytest.raises(InputError, match=line):
            Entry.from_description(teacher.entry("at").describe() | change, "here")


def test_the_cost_is_one_line(teacher: Teacher) -> None:
    assert cost(teacher.entry("stage1"), DATASET) == (
        "stage1: 9 views x 70 samples x 4,096 bytes = 2.6 MB, float32 (stage1 16x8x8)"
    )


def test_bits_are_stored_as_bits_and_the_list_of_methods_states_the_bytes(teacher: Teacher) -> None:
    store = FeatureStore.open(teacher.cache().feature_url("t", "ab"))
    assert store.encoding.fields["tensor0"].dtype == np.uint8
    assert {float(value) for values in store.features(0).values() for value in np.unique(values)} == {0.0, 1.0}
    student = untrained_model("resnet8", DATASET)
    models = Pair(teacher.model, student, DATASET.samples.size, samples=70, views=9, described="")
    for name in ("at", "ab", "hint"):
        encoding = encoding_of(teacher.entry(name))
        stated = asked(settings(name).configured(terms.TERMS[name]), models).bytes
        assert stated == {one.name: one.bytes_per_row for one in encoding.tensors}

"""Invalid attributes are refused in one line, even if the manifest was remade for them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prepkd.errors import InputError
from prepkd.inspection.store_facts import read_facts
from prepkd.runtime.files import fingerprint
from prepkd.store import LogitStore
from prepkd.store.attributes import FORMAT
from prepkd.store.checked import difference
from prepkd.store.identity import identity
from prepkd.store.integrity import damages
from store_checks import refused


def edited(folder: Path, file: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a JSON file of a store, then remake the sections' fingerprints and the file's manifest entry."""
    path = folder / file
    content = json.loads(path.read_text())
    edit(content)
    if file == "zarr.json":
        attributes = content["attributes"]["prepkd"]
        made = {key: fingerprint(attributes.get(key)) for key in attributes.get("fingerprints") or {}}
        attributes["fingerprints"] = made
    path.write_text(json.dumps(content))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[file] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def put(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(content: dict[str, Any]) -> None:
        *parents, leaf = key.split(".")
        place = content["attributes"]["prepkd"]
        for parent in parents:
            place = place[parent]
        place[leaf] = value

    return edit


EDITS = {
    "views.seed": (-1, "x", None, [], 2**64, 1.5),
    "views.views": (0, "many", None, 2**40),
    "views.samples": (0, -1, "x"),
    "views.recipe": (None, "crop", ["spin"], [{"crop": {"padding": -1}}]),
    "views": ("x", None, {}),
    "dataset.classes": ("x", 0, None),
    "dataset": ("x", []),
    "encoding": (None, "f16", {}, {"name": "f8"}, {"name": "i16", "stride": 1}),
    "precision.arithmetic": ("fp8", None),
    "precision": ("x",),
    "teacher": ("x", {}),
    "split": ("x", "test"),
    "pixels": ("x", {"views": "all"}),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in EDITS.items() for value in values])
def test_edited_attributes_are_named_by_reader_check_and_inspection(folder: Path, key: str, value: object) -> None:
    edited(folder, "zarr.json", put(key, value))
    for read in (LogitStore.open, read_facts):
        text = refused(InputError, read, folder)
        assert text.startswith(f"{folder}: attributes")
        if "." in key:
            assert key in text or "describe no views" in text or key.split(".")[-1] in text
    assert [(one.array, one.chunk) for one in damages(folder)][:1] == [("", "zarr.json")]
    (folder / "manifest.json").unlink()
    assert refused(InputError, read_facts, folder).startswith(f"{folder}: attributes")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "precision.arithmetic",
            "unknown",
            "precision.arithmetic is 'unknown' and teacher.model is 'none'; only stores of imported logits may leave it open",
        ),
        ("teacher.name", "..", "teacher.name is '..'; expected a name that is no folder"),
        ("dataset.name", ".", "dataset.name is '.'; expected a name that is no folder"),
        ("pixels", {"views": [0], "samples": 64, "sha256": "a"}, "pixels.samples is 64; expected <= views.samples, 22"),
    ],
)
def test_attributes_that_do_not_fit_each_other(folder: Path, key: str, value: object, said: str) -> None:
    """Otherwise `verify`, and `distill` for its first batch, would grant an unknown arithmetic the coarsest rounding."""
    edited(folder, "zarr.json", put(key, value))
    for read in (LogitStore.open, read_facts):
        assert refused(InputError, read, folder) == f"{folder}: attributes: {said}"


@pytest.mark.parametrize(
    ("key", "value"),
    [("shape", -1), ("shape", [3]), ("data_type", "float99"), ("codecs", None), ("chunk_grid", {}), ("zarr_format", 9)],
)
@pytest.mark.parametrize("array", ["logits", "params"])
def test_edited_descriptions_of_arrays(folder: Path, array: str, key: str, value: object) -> None:
    edited(folder, f"{array}/zarr.json", lambda content: content.update({key: value}))
    assert f"{array}/zarr.json" in [one.chunk for one in damages(folder)]

    def read() -> None:
        LogitStore.open(folder).stored(0)

    assert refused(InputError, read).startswith(f"{folder}: ")


def test_an_array_of_another_shape_than_the_plans(folder: Path) -> None:
    edited(folder, "logits/zarr.json", lambda content: content.update(shape=[3, 21, 5]))
    text = refused(InputError, LogitStore.open, folder)
    assert text.startswith(f"{folder}: logits.shape is [3, 21, 5], expected [3, 22, 5]; ")


@pytest.mark.parametrize("value", ["x", None, [0.1, "x"], 3])
def test_an_edited_summary(folder: Path, value: object) -> None:
    edited(folder, "summary.json", lambda content: content.update(teacher_error_per_view=value))
    assert [one.chunk for one in damages(folder)] == ["summary.json"]


@pytest.mark.parametrize(("step", "remedy"), [(1, "update prepkd"), (-1, "run cache-logits again")])
def test_a_store_of_another_format_is_refused_and_not_called_damaged(folder: Path, step: int, remedy: str) -> None:
    """Every reader of the attributes refuses it: an older store has the same layout and other views."""
    edited(folder, "zarr.json", put("format", FORMAT + step))
    line = f"{folder}: format is {FORMAT + step}, this version of prepkd reads {FORMAT}; {remedy}"
    for read in (damages, LogitStore.open, read_facts, lambda where: identity(str(where), "large")):
        assert refused(InputError, read, folder) == line


@pytest.mark.parametrize("read", [damages, read_facts])
def test_the_remedy_for_an_older_store_of_features_is_their_command(
    folder: Path, read: Callable[[Path], object]
) -> None:
    def older(content: dict[str, Any]) -> None:
        content["attributes"]["prepkd"] |= {"format": FORMAT - 1, "asked": {"entry": "at"}}

    edited(folder, "zarr.json", older)
    assert refused(InputError, read, folder).endswith("; run cache-features again")


def test_a_store_without_a_version_of_its_views_is_refused(folder: Path) -> None:
    edited(folder, "zarr.json", lambda content: content["attributes"]["prepkd"]["views"].update(version=1))
    assert "views.version is 1; expected 2" in refused(InputError, LogitStore.open, folder)


def test_two_digests_are_shown_as_far_as_they_differ() -> None:
    assert difference("a" * 64, "b" * 64) == f"{'a' * 12}, the manifest says {'b' * 12}"
    assert difference("a" * 64, "a" * 30 + "b" * 34) == f"{'a' * 36}, the manifest says {'a' * 30 + 'b' * 6}"
    assert difference("a" * 64, "a" * 63 + "b") == f"{'a' * 64}, the manifest says {'a' * 63}b"

"""The identity that `gather` reads: one line for a store that is missing, unfinished or not a store."""

import json
from pathlib import Path

import pytest
from prepkd.errors import InputError
from prepkd.runtime.files import sha256
from prepkd.store import LogitStore
from prepkd.store.identity import identities, manifest_sha256

GROUP = '{{"zarr_format": 3, "node_type": "group", "attributes": {{"prepkd": {}}}}}'


def test_a_missing_folder_is_an_unfinished_store(tmp_path: Path) -> None:
    missing = tmp_path / "nothing.zarr"
    with pytest.raises(InputError, match=r"no finished store; run `prepkd cache-logits large`") as caught:
        identities({"large": str(missing)})
    assert str(missing) in str(caught.value)


@pytest.mark.parametrize("present", ["manifest.json", "zarr.json"])
def test_one_file_of_the_two_is_an_unfinished_store(tmp_path: Path, present: str) -> None:
    (tmp_path / present).write_text("{}")
    with pytest.raises(InputError, match=r"no finished store"):
        identities({"large": str(tmp_path)})


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ("x", "zarr.json: it is no JSON"),
        ("[1]", "zarr.json: it is no JSON object"),
        ("{}", "zarr.json: describes no Zarr v3 group"),
        (GROUP.format("{}"), "attributes: format is missing"),
        (GROUP.format("[]"), "not a store of prepkd: zarr.json has no attributes `prepkd`"),
    ],
)
def test_a_malformed_description_is_one_line(tmp_path: Path, description: str, problem: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"zarr.json": sha256(description.encode())}))
    (tmp_path / "zarr.json").write_text(description)
    with pytest.raises(InputError, match=problem) as caught:
        identities({"large": str(tmp_path)})
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_description_that_the_manifest_does_not_know(folder: Path) -> None:
    """`distill` would refuse the store later; its fingerprints must not be written to data/lesson.json before."""
    text = (folder / "zarr.json").read_text()
    (folder / "zarr.json").write_text(text.replace('"seed": 7', '"seed": 8'))
    with pytest.raises(
        InputError, match=r"zarr\.json: sha256 is \w{12}, expected \w{12}; run `prepkd cache-logits large`"
    ):
        identities({"large": str(folder)})


def test_the_manifests_sha256_is_the_file_s(folder: Path) -> None:
    digest = sha256((folder / "manifest.json").read_bytes())
    assert identities({"large": str(folder)})["large"]["manifest"] == digest == manifest_sha256(str(folder))
    assert LogitStore.open(folder).manifest_sha256 == digest

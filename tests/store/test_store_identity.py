"""The identity that `gather` reads: one line for a store that is missing, unfinished or not a store."""

from pathlib import Path

import pytest
from prepkd.errors import InputError
from prepkd.store.identity import identities


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
        ("x", "not a logit store .JSONDecodeError"),
        ("[1]", "not a logit store .TypeError"),
        ("{}", "not a logit store .KeyError"),
        ('{"attributes": {"prepkd": {}}}', "attributes: format is missing"),
        ('{"attributes": {"prepkd": []}}', r"attributes: "),
    ],
)
def test_a_malformed_description_is_one_line(tmp_path: Path, description: str, problem: str) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "zarr.json").write_text(description)
    with pytest.raises(InputError, match=problem) as caught:
        identities({"large": str(tmp_path)})
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)

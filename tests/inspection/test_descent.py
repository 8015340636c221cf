"""A model's teachers, read from cards alone: chains, ensembles, and teachers that were deleted or trained again."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import invoke
from inspected import student
from prepkd.errors import InputError
from prepkd.inspection.checkpoint_facts import is_checkpoint, read_checkpoint
from prepkd.models.checkpoint import load_card, write_card
from prepkd.provenance.descent import ancestors, descent, descents, format_chains
from prepkd.runtime.files import fingerprint
from prepkd.teacher.loaded import describe_teacher


def change(folder: Path, **changes: Any) -> dict[str, Any]:
    """Make a model folder if it is missing, change its card and return it."""
    if not folder.is_dir():
        student(folder)
    write_card(folder, load_card(folder) | changes)
    return load_card(folder)


def taught(*teachers: Path) -> dict[str, Any]:
    """The entries of a student's card for these teachers."""
    made = {
        one.name: {"teacher": fingerprint(describe_teacher(load_card(one) | {"name": one.name}))} for one in teachers
    }
    return {"inputs": {"teacher": made}, "training": {"method": "kd", "epochs": 3}, "seed": 1, "test_top1": 0.5}


@pytest.fixture
def teachers(tmp_path: Path) -> Path:
    """Teachers' folders: `two` was taught by `one`, `one` by `large`; `large` and `small` had no teacher."""
    folder = tmp_path / "teachers"
    for name, above in (("large", None), ("small", None), ("one", "large"), ("two", "one")):
        by = {"distilled_from": descent(above, folder / above)} if above else {}
        change(folder / name, training={"epochs": 3}, **by)
    return folder


def names(card: dict[str, Any], teachers: Path) -> list[list[str]]:
    return [[one["name"] for one in chain] for chain in descents(card, teachers)]


def test_a_student_descends_from_its_teacher_and_from_those_above_it(teachers: Path, tmp_path: Path) -> None:
    card = change(tmp_path / "seed1", **taught(teachers / "two"))
    assert names(card, teachers) == [["two", "one", "large"]]
    assert names(load_card(teachers / "two"), teachers) == [["one", "large"]]
    assert names(load_card(teachers / "large"), teachers) == []
    several = change(tmp_path / "seed1", **taught(teachers / "one", teachers / "small"))
    assert names(several, teachers) == [["one", "large"], ["small"]]
    weights = load_card(teachers / "small")["weights_fingerprint"][:12]
    assert format_chains(descents(several, teachers))[1] == f"small (convnet4, weights {weights})"


def test_of_a_teacher_that_is_gone_or_another_one_only_the_name_is_known(teachers: Path, tmp_path: Path) -> None:
    card = change(tmp_path / "seed1", **taught(teachers / "two", teachers / "small"))
    change(teachers / "two", model="convnet8")
    (teachers / "small" / "model.json").unlink()
    assert format_chains(descents(card, teachers)) == ["small (not there)", "two (not there)"]
    assert descent("small", teachers / "small") == [{"name": "small"}]


ANYTHING = [None, 5, "large", {"a": 1}, [1, "x", {"name": ["a"], "other": 2}]]


@pytest.mark.parametrize("above", ANYTHING)
def test_a_card_may_hold_anything_of_a_teacher(above: object, teachers: Path) -> None:
    card = change(teachers / "large", distilled_from=above, inputs={"teacher": {"x": {"teacher": above}}})
    found = ancestors(card)
    assert all(isinstance(value, str) for one in found for value in one.values())
    assert len(format_chains(descents(card, teachers))) == 1


@pytest.mark.parametrize("above", ANYTHING)
def test_teachers_without_names_are_refused(above: object, teachers: Path) -> None:
    with pytest.raises(InputError, match=r"large/model.json: inputs.teacher is .*; expected null, or an object"):
        change(teachers / "large", inputs={"teacher": [above]})


def test_the_card_of_a_folder_is_shown(teachers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(tmp_path / "seed1", **taught(teachers / "two"))
    facts = read_checkpoint(tmp_path / "seed1", teachers)
    assert facts.training == {"method": "kd", "epochs": 3, "seed": 1} and facts.test_top1 == 0.5
    (tmp_path / "models").mkdir()
    teachers.rename(tmp_path / "models/teachers")
    monkeypatch.chdir(tmp_path)
    shown = " ".join(invoke("inspect", "seed1").output.split())
    assert "model convnet4, 6 classes" in shown and "method kd" in shown and "test top-1 50.00%" in shown
    assert "distilled from two (convnet4, weights " in shown and shown.count(" <- ") == 2
    found = json.loads(invoke("inspect", "seed1", "--json").stdout)
    assert [one["name"] for one in found["distilled_from"][0]] == ["two", "one", "large"]
    assert "no teacher: trained with the labels, or given" in invoke("inspect", "models/teachers/large").output
    Path("seed1/model.json").write_text("{")
    done = invoke("inspect", "seed1")
    assert done.exit_code == 2 and "seed1/model.json: not JSON" in done.output


def test_a_store_or_a_url_is_no_checkpoint(tmp_path: Path) -> None:
    assert not is_checkpoint(str(tmp_path)) and not is_checkpoint("memory://x/model.json")
    with pytest.raises(InputError, match="no such file; expected a folder that prepkd wrote"):
        read_checkpoint(tmp_path, tmp_path)

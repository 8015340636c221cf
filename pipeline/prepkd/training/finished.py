"""Finished models and results are replaced by those of other settings or inputs only if that is asked for."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prepkd.errors import InputError, refuse_differences
from prepkd.models.checkpoint import CARD
from prepkd.training.predictions import read_results
from prepkd.training.student import NOT_IDENTITY
from prepkd.training.student_settings import Distill
from prepkd.training.teacher_settings import Teacher

REMEDY = "--replace replaces it"


def refuse_other_teacher(folder: Path, settings: Teacher, inputs: Mapping[str, Any]) -> None:
    """Raise InputError if a folder holds a finished teacher of other settings, or of other inputs."""
    wanted = {"training": settings.model_dump(mode="json", exclude={"checkpoint_every"}), "inputs": inputs}
    _refuse_other(_card(folder), wanted, f"{folder}: holds a finished teacher")


def refuse_other_students(folder: Path, settings: Distill, inputs: Mapping[str, Any]) -> None:
    """Raise InputError if a folder holds finished students of other settings, inputs or seeds, one folder per seed."""
    found = {int(path.name.removeprefix("seed")): path for path in folder.glob("seed*") if (path / CARD).is_file()}
    for _, path in sorted(found.items()):
        _refuse_other(_card(path), _made_from(settings, inputs), f"{path}: holds a finished student")
    _refuse_more_seeds(found.keys(), settings, f"{folder}: holds finished students")


def refuse_other_run(path: Path, settings: Distill, inputs: Mapping[str, Any], test_fingerprint: str) -> None:
    """Raise InputError if a file holds a finished run of other settings, teachers, test data or seeds."""
    try:
        results = read_results(path, "")
    except InputError:  # missing, or damaged: there is nothing to lose
        return
    where, made = f"{path}: holds a finished run", results.made_from
    had = {"training": made.get("training"), "inputs": {key: made.get(key) for key in ("teacher", "test_fingerprint")}}
    wanted = _made_from(settings, {"teacher": inputs["teacher"], "test_fingerprint": test_fingerprint})
    _refuse_other(had, wanted, where)
    _refuse_more_seeds(results.logits.keys(), settings, where)


def _made_from(settings: Distill, inputs: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {"training": settings.model_dump(mode="json", exclude=NOT_IDENTITY | settings.unused), "inputs": inputs}


def _card(folder: Path) -> dict[str, Any]:
    """A folder's card, of any version; an empty one if it is missing or damaged: then nothing is finished."""
    try:
        card = json.loads((folder / CARD).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _refuse_other(had: Mapping[str, Any], wanted: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Compare part by part; a key that did not exist when the work was done is not compared."""
    fields = {
        f"{part}.{key}": (found[key], value)
        for part, values in wanted.items()
        for found in [had.get(part) or {}]
        for key, value in values.items()
        if key in found
    }
    refuse_differences(fields, where, REMEDY)


def _refuse_more_seeds(found: Iterable[int], settings: Distill, where: str) -> None:
    if more := sorted(set(found) - set(settings.seed_list)):
        raise InputError(f"{where} of seed {', '.join(map(str, more))}, which these settings leave out; {REMEDY}")

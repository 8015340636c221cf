"""Refuse to overwrite finished students and finished runs of the comparison."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError, refuse_differences
from prepkd.models.weight_claims import CARD
from prepkd.training.finished import REMEDY, finished_card, refuse_other
from prepkd.training.predictions import read_results


def refuse_other_students(folder: Path, settings: Distill, inputs: Mapping[str, Any]) -> None:
    """Raise InputError if a folder holds finished students of other settings, inputs or seeds, one folder per seed."""
    found = {int(path.name.removeprefix("seed")): path for path in folder.glob("seed*") if (path / CARD).is_file()}
    for seed, path in sorted(found.items()):
        card, where = finished_card(path), f"{path}: holds a finished student"
        refuse_other(card, settings, inputs, where, but=settings.keys_without_effect)
        refuse_differences({"seed": (card.get("seed", seed), seed)}, where, REMEDY)
    _refuse_more_seeds(found, settings, f"{folder}: holds finished students")


def refuse_other_run(path: Path, settings: Distill, inputs: Mapping[str, Any], test_fingerprint: str) -> None:
    """Raise InputError if a file holds a finished run of other settings, inputs (images, views, teachers) or seeds."""
    try:
        results = read_results(path, "")
    except InputError:  # missing, or damaged: there is nothing to lose
        return
    where, made = f"{path}: holds a finished run", results.made_from
    wanted = {key: inputs[key] for key in ("split_fingerprint", "plan_fingerprint", "teacher")}
    wanted |= {"test_fingerprint": test_fingerprint}
    had = {"training": made.get("training"), "inputs": {key: made[key] for key in wanted if key in made}}
    refuse_other(had, settings, wanted, where, but=settings.keys_without_effect)
    _refuse_more_seeds(results.logits, settings, where)


def _refuse_more_seeds(found: Iterable[int], settings: Distill, where: str) -> None:
    if more := sorted(set(found) - set(settings.seed_list)):
        raise InputError(f"{where} of seed {', '.join(map(str, more))}, which these settings leave out; {REMEDY}")

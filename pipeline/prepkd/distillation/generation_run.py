"""A generation's folder: a teacher's folder whose card also names the teachers above it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.generation_settings import Generation
from prepkd.errors import refuse_differences
from prepkd.models.checkpoint import JSON
from prepkd.provenance.descent import descent
from prepkd.training.context import Trained
from prepkd.training.finished import REMEDY, finished_card, refuse_other
from prepkd.training.teacher_folder import write_teacher


def refuse_other_generation(folder: Path, settings: Generation, inputs: Mapping[str, Any]) -> None:
    """Raise InputError if a folder holds a finished teacher of other settings or inputs, or one trained without a teacher."""
    had, where = finished_card(folder), f"{folder}: holds a finished teacher"
    if had:  # first: the most telling difference
        taught = (had.get("inputs") or {}).get("teacher")
        refuse_differences({"inputs.teacher": (taught, inputs["teacher"])}, where, REMEDY)
    refuse_other(had, settings, inputs, where, but=settings.keys_without_effect)


def write_generation(
    folder: Path,
    name: str,
    settings: Generation,
    trained: Trained,
    dataset: Dataset,
    *,
    teacher: Path,
    say: Callable[[str], None],
) -> dict[str, JSON]:
    """Write a distilled student as a teacher and return its card; `teacher` is the folder of its own teacher.

    Raises InputError as `write_teacher` does.
    """
    card: dict[str, JSON] = {
        **trained.card,
        "training": settings.model_dump(mode="json"),
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "distilled_from": descent(settings.teacher, teacher),
    }
    return write_teacher(folder, name, trained._replace(card=card), dataset, say=say)

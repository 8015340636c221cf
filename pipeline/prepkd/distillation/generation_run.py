"""A generation's folder: a teacher's, with a card that says by whom it was taught."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.generation_settings import Generation
from prepkd.errors import refuse_differences
from prepkd.models.checkpoint import JSON, load_card
from prepkd.training.context import Trained
from prepkd.training.finished import REMEDY, finished_card, refuse_other
from prepkd.training.teacher_folder import write_teacher

DEEPEST = 1000  # teachers above a generation that a card may list
DESCRIBED = ("name", "model", "weights_fingerprint")


def refuse_other_generation(folder: Path, settings: Generation, inputs: Mapping[str, Any]) -> None:
    """Raise InputError if a folder holds a finished teacher of other settings or inputs, or one that had no teacher."""
    had, where = finished_card(folder), f"{folder}: holds a finished teacher"
    if had:  # first: it says most
        taught = (had.get("inputs") or {}).get("teacher")
        refuse_differences({"inputs.teacher": (taught, inputs["teacher"])}, where, REMEDY)
    refuse_other(had, settings, inputs, where, but=settings.as_student.same_result)


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
    """Write a distilled student as a teacher; `teacher` is the folder of the one that taught it. Returns its card.

    Raises InputError as `write_teacher`.
    """
    card: dict[str, JSON] = {
        **trained.card,
        "training": settings.model_dump(mode="json"),
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "distilled_from": descent(settings.teacher, teacher),
    }
    return write_teacher(folder, name, trained._replace(card=card), dataset, say=say)


def descent(name: str, folder: Path) -> list[JSON]:
    """The teachers above a generation, the nearest first: name, model, fingerprint of the weights.

    `folder` is the nearest one's; of a teacher whose logits alone are there, only the name is known.
    """
    if not finished_card(folder):
        return [{"name": name}]
    card = load_card(folder)
    above = card.get("distilled_from")
    known = above[:DEEPEST] if isinstance(above, list) else []
    others = [{key: str(one[key]) for key in DESCRIBED if key in one} for one in known if isinstance(one, dict)]
    return [{"name": name, "model": card["model"], "weights_fingerprint": card["weights_fingerprint"]}, *others]

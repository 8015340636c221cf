"""A teacher's files in a project: load its model, and check that it fits the data and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prepkd.data.samples.dataset import Dataset
from prepkd.errors import InputError, refuse_differences
from prepkd.models import load_checkpoint
from prepkd.models.weight_claims import order_problem
from prepkd.models.weight_files import weights_file
from prepkd.runtime.files import file_sha256
from prepkd.teacher.loaded import LoadedTeacher


@dataclass(frozen=True)
class TeacherFiles:
    """A teacher's folder, its store's path or URL, the weights that its settings name, and the command that creates it.

    `generation` is the generation that it teaches; None for the students of `distill`.
    """

    folder: Path
    store: str
    weights: Path | None
    command: str
    generation: str | None = None


def load_teacher(name: str, files: TeacherFiles, dataset: Dataset) -> LoadedTeacher:
    """Load a teacher onto the dataset's device; raises InputError if it is missing or does not fit the data."""
    model, card = load_checkpoint(files.folder, device=dataset.samples.device, hint=f"run `{files.command}`")
    check_card(card, dataset, files.folder)
    check_given(card, files.weights, files.folder)
    return LoadedTeacher(name, model, card)


def check_card(card: Mapping[str, Any], dataset: Dataset, folder: Path) -> None:
    """Refuse a teacher of other classes, their order or channels, or one trained on another split; raises InputError."""
    wanted = {
        "num_classes": (card["num_classes"], dataset.classes),
        "in_channels": (card["in_channels"], dataset.samples.channels),
    }
    if card.get("training", {}).get("epochs"):  # given weights may come from anywhere
        ours, theirs = dataset.origin["split_fingerprint"], card["inputs"]["split_fingerprint"]
        wanted["inputs.split_fingerprint"] = theirs, ours
    remedy = f"run `{command_by_card(card, folder)}`"
    refuse_differences(wanted, folder, remedy)
    if wrong := order_problem(card.get("class_names"), dataset.class_names):
        raise InputError(f"{folder}: {wrong}; {remedy}")


def command_by_card(card: Mapping[str, Any], folder: Path) -> str:
    """The command that makes a teacher's folder, by its card."""
    return f"prepkd train-{'generation' if card.get('distilled_from') else 'teacher'} {folder.name}"


def check_given(card: Mapping[str, Any], weights: Path | None, folder: Path) -> None:
    """Refuse a teacher whose given file of weights has changed since; raises InputError."""
    made_from = card.get("weights_from", {}).get("sha256")
    if made_from and weights and weights_file(weights).is_file():  # the file may be missing where the teacher is used
        remedy = f"{weights} has changed; run `{command_by_card(card, folder)}`"
        refuse_differences({"weights_from.sha256": (made_from, file_sha256(weights_file(weights)))}, folder, remedy)

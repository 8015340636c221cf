"""A teacher's files in a project, and its model read from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prepkd.data.samples.dataset import Dataset
from prepkd.models import Normalised, load_checkpoint
from prepkd.verification.provenance import check_card, check_given


@dataclass(frozen=True)
class TeacherFiles:
    """A teacher's folder, its store's path or URL, the weights that its settings name, and the command that makes it."""

    folder: Path
    store: str
    weights: Path | None
    command: str


def load_teacher(files: TeacherFiles, dataset: Dataset, inputs: Mapping[str, Any]) -> tuple[Normalised, dict[str, Any]]:
    """A teacher's model and card; raises InputError if it is missing or does not fit the data."""
    model, card = load_checkpoint(files.folder, device=dataset.samples.device, hint=f"run `{files.command}`")
    check_card(card, dataset, inputs, files.folder)
    check_given(card, files.weights, files.folder)
    return model, card

"""The folder of a teacher's or a student's checkpoint as given weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError, refuse_differences
from prepkd.models.checkpoint import load_card, load_checkpoint
from prepkd.models.settings import OwnPreprocessing
from prepkd.models.weight_claims import unknown_class
from prepkd.settings.validation import validated

HINT = "weights names a folder; expected one that prepkd wrote, as models/student/seed0, or a file of weights"


def folder_card(folder: Path) -> dict[str, Any]:
    """Return the card of a checkpoint's folder; raises InputError for any other folder."""
    card = load_card(folder, HINT)
    validated(OwnPreprocessing, card["preprocessing"], f"{folder}: preprocessing")
    return card


def preprocessing_of(weights: Path | None, own: Preprocessing | None) -> Preprocessing | None:
    """Return the preprocessing of given weights: the settings' `own`, else that of the folder `weights`; None if neither.

    Raises InputError as `folder_card` does.
    """
    if own is not None or weights is None or not weights.is_dir():
        return own
    return Preprocessing.from_description(folder_card(weights)["preprocessing"])


def check_folder(folder: Path, model: str, class_names: Sequence[str] | None) -> None:
    """Raise InputError for a folder of another model, a damaged one, and one of other classes than `class_names`.

    With None other classes are allowed, since a new classifier is trained.
    """
    card = folder_card(folder)
    # Checked first: the card is not trusted, and its model's name may be that of a module to import.
    refuse_differences(
        {"model": (card["model"], model)}, folder, "set the model to the folder's, or name another folder"
    )
    if class_names is not None:
        remedy = "with epochs: 0 its classes must be the data's"
        refuse_differences({"num_classes": (card["num_classes"], len(class_names))}, folder, remedy)
        theirs = card.get("class_names")
        if isinstance(theirs, list) and (other := unknown_class(theirs, class_names)) is not None:
            raise InputError(f"{folder}: its class {other[:60]!r} is none of the data's; {remedy}")
    load_checkpoint(folder, hint=HINT)

"""Train a teacher, evaluate it on the test set, write its folder."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from prepkd.data.samples.dataset import Dataset
from prepkd.errors import InputError
from prepkd.models import check_model, save_checkpoint
from prepkd.models.checkpoint import JSON, weights_fingerprint
from prepkd.runtime.files import fingerprint, write_bytes
from prepkd.tracking.loggers import Run, Write
from prepkd.training.checkpoints import TRAINING_VERSION, Row
from prepkd.training.evaluation import predict, top1
from prepkd.training.finished import finished_card, refuse_other
from prepkd.training.predictions import write_results
from prepkd.training.stopping import card_entry
from prepkd.training.teacher import describe, given_weights, published_preprocessing, train_teacher
from prepkd.training.teacher_settings import Teacher


def run_teacher(
    name: str,
    settings: Teacher,
    dataset: Dataset,
    inputs: dict[str, JSON],
    *,
    folder: Path,
    replace: bool = False,
    students: Iterable[str],
    test_fingerprint: str,
    scratch: Callable[[str], AbstractContextManager[Path]],
    logged: Callable[[Run], AbstractContextManager[Write]],
    on_epoch: Callable[[Row], None],
) -> dict[str, JSON]:
    """Train a teacher, write its history, test logits and checkpoint to `folder`, and return its card.

    `inputs` are the fingerprints of what was read. The work is kept in `scratch(fingerprint)` until the folder is complete.
    Raises InputError for a model that does not exist, `students` included, for test logits that are not finite, and, without
    `replace`, if `folder` holds a finished teacher of other settings or inputs.
    """
    # Reject unknown student names before training the teacher.
    for model_name in dict.fromkeys([settings.model, *students]):
        check_model(model_name, dataset.samples.channels)
    inputs = inputs | given_weights(settings)
    if not replace:
        asked = settings.model_dump(mode="json", exclude={"checkpoint_every"})
        refuse_other(finished_card(folder), asked, inputs, f"{folder}: holds a finished teacher")
    kept = settings.identity(but={"checkpoint_every"})
    run = fingerprint({"version": TRAINING_VERSION, "teacher": kept, "inputs": inputs})
    with scratch(run) as work, logged(Run(f"teacher-{name}", run, settings.model_dump(mode="json"))) as write:

        def report(row: Row) -> None:
            on_epoch(row)
            write(row)

        model, history = train_teacher(settings, dataset, checkpoint=work / "checkpoint.pt", on_epoch=report)
        test = dataset.held_out["test"]
        logits = _finite(name, predict(model, test))
        card: dict[str, JSON] = describe(model, settings, dataset, inputs) | {
            "name": name,
            "test_top1": top1(logits, test.labels),
            **card_entry(settings, history),
        }
        # Without the clock's column: the same training gives the same folder, and nothing after it is out of date.
        table = pd.DataFrame(history).drop(columns="samples_per_second", errors="ignore")
        write_bytes(folder / "history.csv", table.to_csv(index=False).encode())
        made_from = {"weights_fingerprint": weights_fingerprint(model), "test_fingerprint": test_fingerprint}
        write_results(folder / "test_logits.safetensors", {0: logits}, made_from)
        save_checkpoint(folder, model, card)
    return card


def preprocessing_note(name: str, settings: Teacher, card: dict[str, Any]) -> str | None:
    """Return a line on how the authors of the given weights normalise this data; None if that is unknown or is set."""
    theirs = published_preprocessing(card)
    if theirs is None or settings.preprocessing is not None:
        return None
    return (
        f"note: {settings.weights} has {card['weights_from']['format']}'s format, whose authors normalise "
        f"{card['inputs']['dataset']} slightly differently from the data set's statistics; to match them, set "
        f"teachers.{name}.preprocessing to {theirs}"
    )


def _finite(name: str, logits: Tensor) -> Tensor:
    if strange := int((~logits.isfinite()).any(dim=1).sum()):
        raise InputError(
            f"teacher {name!r}: its logits are not finite for {strange} of {len(logits)} test images; "
            "look at its weights, its preprocessing and its lr"
        )
    return logits

"""Train a teacher, evaluate it on the test set, write its folder."""

import copy
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from prepkd.data.samples.dataset import Dataset
from prepkd.errors import refuse_differences
from prepkd.models import Normalised, check_model, pretrained
from prepkd.models.checkpoint import JSON
from prepkd.runtime import distributed
from prepkd.runtime.files import fingerprint
from prepkd.runtime.streams import Purpose
from prepkd.tracking.loggers import Run
from prepkd.training.checkpoints import TRAINING_VERSION, Row
from prepkd.training.context import RunContext, Trained
from prepkd.training.finished import REMEDY, finished_card, refuse_other
from prepkd.training.initial import given_weights, initial_model, loading_notes
from prepkd.training.plausibility import check_class_order
from prepkd.training.stopping import card_entry
from prepkd.training.teacher import published_preprocessing, teacher_card, train_teacher
from prepkd.training.teacher_folder import write_teacher
from prepkd.training.teacher_settings import Teacher
from prepkd.training.trial import (
    BatchShape,
    StudentTrialSettings,
    batch_sizes,
    try_inference,
    try_students,
    try_training,
)


def run_teacher(
    name: str,
    settings: Teacher,
    dataset: Dataset,
    context: RunContext,
    *,
    folder: Path,
    replace: bool = False,
    students: Iterable[tuple[str, StudentTrialSettings]],
) -> dict[str, JSON]:
    """Train a teacher, write its history, test logits and checkpoint to `folder`, and return its card.

    Unfinished work is kept until the folder is complete. `students` are pairs (section of params.yaml, settings). Raises
    InputError if the model or a student does not exist or cannot be trained, for classes in another order than the data's, for
    test logits that are not finite or are probabilities, and, without `replace`, if `folder` holds a finished teacher of other
    settings or inputs, or one that was evaluated at another size.
    """
    check_model(settings.model, dataset.samples.channels)
    try_students(students, dataset)
    inputs = dict(dataset.origin) | given_weights(settings, settings.model)
    framing = dataset.framing.model_dump()  # the project's, which the teacher's own augment does not change
    if not replace:
        had, where = finished_card(folder), f"{folder}: holds a finished teacher"
        made_from = {"teacher": None} | inputs  # a distilled one of this name is another teacher
        refuse_other(had, settings, made_from, where, but=settings.keys_without_effect)
        refuse_differences({"evaluation": (had.get("evaluation", framing), framing)}, where, REMEDY)
    start, loaded = initial_model(settings.model, settings, dataset, settings.seed, Purpose.TEACHER_WEIGHTS)
    try_teacher(name, settings, start, dataset)
    if settings.epochs == 0:
        check_class_order(settings.model, loaded, dataset, settings.weights or settings.model)
    for line in loading_notes(settings, loaded, f"teacher {name!r}"):
        context.say(line)
    context.on_inputs(inputs)
    kept = settings.used(but={"checkpoint_every"})
    run = fingerprint({"version": TRAINING_VERSION, "teacher": kept, "inputs": inputs, "evaluation": framing})
    described = Run(f"teacher-{name}", run, settings.model_dump(mode="json"))
    with context.scratch(run) as work, context.logged(described) as write:

        def report(row: Row) -> None:
            context.on_epoch(settings.seed, row)
            write(row)

        model, history = train_teacher(
            settings,
            dataset,
            start,
            checkpoint=work / "checkpoint.pt",
            on_epoch=report,
            on_step=partial(context.on_step, settings.seed),
        )
        distributed.exit_unless_main_process()
        card = teacher_card(model, settings, dataset, inputs, loaded) | card_entry(settings, history)
        trained, claims = Trained(settings.seed, model, history, card), loaded.claims if loaded else None
        return write_teacher(folder, name, trained, dataset, claims=claims, say=context.say)


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


def try_teacher(name: str, settings: Teacher, model: Normalised, dataset: Dataset) -> None:
    """Try a copy of a teacher on training batches, and one on images of the test images' size; raises InputError."""
    channels, classes, who = dataset.samples.channels, dataset.classes, f"teacher {name!r}"
    if settings.epochs:
        sizes = batch_sizes(len(dataset.samples), settings.batch_size)
        batches = BatchShape(dataset.samples.size, channels, classes)
        try_training(who, copy.deepcopy(model), batches, sizes, settings)
    if settings.epochs or not pretrained(settings.model):  # `train_teacher` refuses weights for other classes
        try_inference(who, copy.deepcopy(model), BatchShape(dataset.held_out["test"].size, channels, classes))

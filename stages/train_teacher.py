"""train-teacher: data/<dataset>.h5 -> models/teachers/NAME/."""

from pathlib import Path
from typing import Annotated, Any

import typer
from prepkd.errors import InputError
from prepkd.stages._shared import (
    Overrides,
    ParamsFile,
    advance,
    console,
    epoch_note,
    known_teacher,
    logs_folder,
    progress,
    read_dataset,
    read_params,
    scratch,
    teacher_folder,
    test_fingerprint,
)


def train_teacher(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key of `teachers` in params.yaml.")],
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    epochs: Annotated[int | None, typer.Option(help="Override teachers.NAME.epochs.")] = None,
) -> None:
    """Train a teacher; writes its weights, its card and its test logits to `models/teachers/NAME/`.

    Killed? Run the same command again: it goes on from the last checkpoint and ends with the same weights.
    """
    params = read_params(params_file, overrides)
    known_teacher(params, name)
    params = read_params(params_file, overrides, **{f"teachers.{name}.epochs": epochs})
    import pandas as pd
    from prepkd.models import check_model, save_checkpoint
    from prepkd.models.checkpoint import weights_fingerprint
    from prepkd.runtime.files import fingerprint, write_bytes
    from prepkd.tracking.loggers import Run, logged
    from prepkd.training.evaluation import predict, top1
    from prepkd.training.predictions import write_results
    from prepkd.training.stopping import card_entry
    from prepkd.training.teacher import describe, given_weights, published_preprocessing, teacher_views
    from prepkd.training.teacher import train_teacher as train

    settings = params.teachers[name]
    dataset, inputs = read_dataset(params, teacher_views(settings), settings.seed, settings.augment)
    # A student that nobody has must not be found out after the teacher's training.
    for one in dict.fromkeys([settings.model, params.distill.student, *params.compare.students]):
        check_model(one, dataset.samples.channels)
    inputs |= given_weights(settings)
    run = fingerprint({"teacher": settings.identity(but={"checkpoint_every"}), "inputs": inputs})
    described = Run(f"teacher-{name}", run, settings.model_dump(mode="json"))
    logger = params.logger if settings.epochs else None
    with scratch(run) as work, progress() as bar, logged(logger, logs_folder(), described) as write:
        task = bar.add_task(f"teacher {name}", total=settings.epochs, note="")

        def on_epoch(row: dict[str, float]) -> None:
            advance(bar, task, epoch_note(row))
            write(row)

        model, history = train(settings, dataset, checkpoint=work / "checkpoint.pt", on_epoch=on_epoch)
        test = dataset.held_out["test"]
        logits = predict(model, test)
        if strange := int((~logits.isfinite()).any(dim=1).sum()):
            raise InputError(
                f"teacher {name!r}: its logits are not finite for {strange} of {len(logits)} test images; "
                "look at its weights, its preprocessing and its lr"
            )
        card: dict[str, Any] = describe(model, settings, dataset, inputs) | {
            "name": name,
            "test_top1": top1(logits, test.labels),
            **card_entry(settings, history),
        }
        folder = teacher_folder(name)
        # Without the clock's column: the same training gives the same folder, and nothing after it is out of date.
        table = pd.DataFrame(history).drop(columns="samples_per_second", errors="ignore")
        write_bytes(folder / "history.csv", table.to_csv(index=False).encode())
        made_from = {"weights_fingerprint": weights_fingerprint(model), "test_fingerprint": test_fingerprint(params)}
        write_results(folder / "test_logits.safetensors", {0: logits}, made_from)
        save_checkpoint(folder, model, card)
    console.print(f"{folder}: {settings.model}, test top-1 {card['test_top1']:.2%}")
    if (theirs := published_preprocessing(card)) and settings.preprocessing is None:
        console.print(
            f"note: {settings.weights} has {card['weights_from']['format']}'s format, whose authors normalise "
            f"{inputs['dataset']} a little otherwise than its own statistics; to do as they did, set "
            f"teachers.{name}.preprocessing to {theirs}",
            markup=False,
        )

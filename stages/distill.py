"""distill: data/<dataset>.h5 and data/logits/TEACHER.zarr -> models/student/seed<k>/ and results/training/seed<k>/."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from prepkd.display.text import counted
from prepkd.distillation.finished_students import refuse_other_students
from prepkd.models import save_checkpoint
from prepkd.project import outputs as outputs_of
from prepkd.runtime.outputs import remove
from prepkd.stages._console import console, progress
from prepkd.stages._curves import Curves
from prepkd.stages._dataset import cached_views
from prepkd.stages._devices import use_devices
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, Replace, may_replace, read_params
from prepkd.stages._progress import TrainingProgress
from prepkd.stages._project import STUDENTS, TRAINING, student_folder, training
from prepkd.stages._students import described, students
from prepkd.stages._summary import Students
from prepkd.training.stopping import kept_epoch


def distill(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    replace: Replace = False,
    method: Annotated[str | None, typer.Option(help="Override distill.method, e.g. ka-ps+dtd-flsw.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Override distill.teacher.")] = None,
    student: Annotated[str | None, typer.Option(help="Override distill.student.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Override distill.seeds: a count, or a list as [0,3].")] = None,
    source: Annotated[str | None, typer.Option(help="Override distill.source: cached or online.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Override distill.epochs.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train students from the teacher's cached logits, one per seed; writes `models/student/seed<k>/`.

    Every epoch's figures go to `results/training/seed<k>/` (DVCLive). Killed? Run the same command again: it resumes.
    """
    given = {"method": method, "teacher": teacher, "student": student, "seeds": seeds, "source": source}
    options = {f"distill.{key}": value for key, value in {**given, "epochs": epochs}.items()}
    params = read_params(params_file, overrides, **options)
    use_devices(params)
    settings, log = params.distill, Curves(TRAINING)
    outputs = outputs_of.students(STUDENTS), outputs_of.curves(TRAINING)
    refuse = None if may_replace(replace) else partial(refuse_other_students, STUDENTS, settings)
    with training(*outputs), progress() as bar:
        shown, figures = TrainingProgress(bar, settings.method, settings.seed_list, settings.epochs), Students()

        def on_epoch(seed: int, row: dict[str, float]) -> None:
            shown.epoch(seed, row)
            if not log.logs:  # the inputs are checked and training has begun: remove the outputs of the last run
                for output in outputs:
                    remove(output)
            log.log(seed, row)

        dataset = cached_views(params)
        inputs = shown.started(described(settings, dataset), refuse)
        with students(params, settings, dataset, on_epoch, inputs, on_step=shown.step) as trained:
            for seed, model, history, card in figures.noted(trained, partial(kept_epoch, settings)):
                row = history[kept_epoch(settings, history)]
                log.end(seed)
                save_checkpoint(student_folder(seed), model, card | {"test_top1": row["test/top1"]})
    count = counted(len(settings.seed_list), "seed")
    console.print(f"models/student: {settings.method}, {count}; `prepkd evaluate` reports them")
    facts = {"method": settings.method, "student": settings.student, "teachers": settings.teacher_names}
    figures.show(f"Students taught by {settings.method}", facts, student_folder)

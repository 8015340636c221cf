"""distill: data/<dataset>.h5 and data/logits/TEACHER.zarr -> models/student/seed<k>/ and results/training/seed<k>/."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from prepkd.distillation.finished_students import refuse_other_students
from prepkd.models import save_checkpoint
from prepkd.project import outputs as outputs_of
from prepkd.runtime.outputs import remove
from prepkd.stages._console import advance, console, epoch_note, progress
from prepkd.stages._curves import Curves
from prepkd.stages._dataset import cached_views
from prepkd.stages._devices import use_devices
from prepkd.stages._options import Overrides, ParamsFile, Replace, may_replace, read_params
from prepkd.stages._project import STUDENTS, TRAINING, student_folder, training
from prepkd.stages._students import students
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
        title, epochs = f"{settings.method}, seed", settings.epochs
        tasks = {s: bar.add_task(f"{title} {s}", total=epochs, note="") for s in settings.seed_list}

        def on_epoch(seed: int, row: dict[str, float]) -> None:
            advance(bar, tasks[seed], epoch_note(row))
            if not log.logs:  # inputs are checked and training is under way: the last run's outputs are out of date
                for output in outputs:
                    remove(output)
            log.log(seed, row)

        with students(params, settings, cached_views(params), on_epoch, refuse) as trained:
            for seed, model, history, card in trained:
                row = history[kept_epoch(settings, history)]
                log.end(seed)
                save_checkpoint(student_folder(seed), model, card | {"test_top1": row["test/top1"]})
    console.print(f"models/student: {settings.method}, {len(settings.seed_list)} seeds; `prepkd evaluate` reports them")

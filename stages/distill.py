"""distill: data/<dataset>.h5 and data/logits/TEACHER.zarr -> models/student/seed<k>/ and results/training/seed<k>/."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from prepkd.stages._shared import (
    Overrides,
    ParamsFile,
    advance,
    console,
    epoch_note,
    progress,
    read_params,
    student_folder,
)
from prepkd.stages._teaching import students

if TYPE_CHECKING:
    from dvclive.live import Live


def distill(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    method: Annotated[str | None, typer.Option(help="Override distill.method, e.g. ka-ps+dtd-flsw.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Override distill.teacher.")] = None,
    student: Annotated[str | None, typer.Option(help="Override distill.student.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Override distill.seeds: a count, or a list as [0,3].")] = None,
    source: Annotated[str | None, typer.Option(help="Override distill.source: cached or online.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Override distill.epochs.")] = None,
) -> None:
    """Train students from the teacher's cached logits, one for each seed; writes `models/student/seed<k>/`.

    Curves and figures of every epoch go to `results/training/seed<k>/` (DVCLive). Killed? The same command goes on.
    """
    given = {
        "method": method,
        "teacher": teacher,
        "student": student,
        "seeds": seeds,
        "source": source,
        "epochs": epochs,
    }
    params = read_params(params_file, overrides, **{f"distill.{key}": value for key, value in given.items()})
    import shutil

    settings = params.distill
    logs: dict[int, Live] = {}

    with progress() as bar:
        tasks = {
            s: bar.add_task(f"{settings.method}, seed {s}", total=settings.epochs, note="") for s in settings.seed_list
        }

        def on_epoch(seed: int, row: dict[str, float]) -> None:
            advance(bar, tasks[seed], epoch_note(row))
            if not logs:  # inputs are checked and training is under way: the last run's outputs are out of date
                shutil.rmtree("models/student", ignore_errors=True)
                shutil.rmtree("results/training", ignore_errors=True)
            if seed not in logs:
                from dvclive.live import Live  # half a second, which no first step waits for

                folder = f"results/training/seed{seed}"
                logs[seed] = Live(folder, save_dvc_exp=False, dvcyaml=None, report=None)
            for key, value in row.items():
                logs[seed].log_metric(key, value)
            logs[seed].next_step()  # type: ignore[no-untyped-call]

        with students(params, settings, on_epoch) as trained:
            from prepkd.models import save_checkpoint
            from prepkd.training.stopping import kept_epoch

            for seed, model, history, card in trained:
                row = history[kept_epoch(settings, history)]
                logs[seed].end()  # type: ignore[no-untyped-call]
                save_checkpoint(student_folder(seed), model, card | {"test_top1": row["test/top1"]})
    console.print(f"models/student: {settings.method}, {len(settings.seed_list)} seeds; `prepkd evaluate` reports them")

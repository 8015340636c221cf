"""compare: one run of the comparison, or the tables of all of them -> results/compare/."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from prepkd.data.prepared.file import load_split
from prepkd.distillation.finished_students import refuse_other_run
from prepkd.distillation.run_results import write_run
from prepkd.errors import InputError
from prepkd.project.outputs import run_logits, tables
from prepkd.project.params import Params
from prepkd.report.grid import tabulate
from prepkd.report.markdown import fitting
from prepkd.stages._comparison import COMPARISON, grid, run_file, run_of
from prepkd.stages._console import console, progress, say, show
from prepkd.stages._dataset import cached_views
from prepkd.stages._devices import use_devices
from prepkd.stages._engines import Engine, EngineOption, NumGpus, refuse_without_ray
from prepkd.stages._grid import starting, train_grid, whole_grid
from prepkd.stages._options import AsJson, Overrides, ParamsFile, Quiet, Replace, may_replace, read_params
from prepkd.stages._progress import TrainingProgress
from prepkd.stages._project import data_file, training, writing
from prepkd.stages._students import described, students
from prepkd.stages._summary import Students
from prepkd.training.stopping import kept_epoch
from prepkd.views import parse_recipe
from rich.text import Text


def compare(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    replace: Replace = False,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="METHOD[,KEY=VALUE...]", help="Train this run, e.g. 'kd,ce_weight=0', and stop."),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="NAME[+NAME...]", help="With --run: its teacher, else the grid's first.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="With --run: its student, else the grid's first.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Train what is not finished of the grid, or of --run: so many seeds at once."),
    ] = None,
    engine: EngineOption = Engine.LOCAL,
    num_gpus: NumGpus = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods: `--run` trains one of them over all seeds; without it `results/compare/` gets tables and a picture.

    They cover the grid in `compare`, runs x students x teachers: mean, std, n, and differences paired by seed, with the
    t interval and the p of the paired t test after Holm's correction. Seeds that were trained before are not trained again.
    long.csv has one row per seed, wide.csv one row per run and the pairs side by side. Without `models/teachers/NAME` agreement
    and genetic errors are left out.

    `--jobs` or `--engine ray` train the grid first. A training that fails is reported, and the others finish.
    """
    params = read_params(params_file, overrides)
    if run is None and (teacher or student):
        raise InputError("--teacher and --student say which run to train; add --run")
    pair, may = (teacher or params.pairs[0][0], student or params.pairs[0][1]), may_replace(replace)
    refuse_without_ray(engine, num_gpus=num_gpus)
    if jobs is not None or engine is Engine.RAY:
        with starting(params, engine, jobs, num_gpus) as (theirs, start):
            runs = {(run, *pair): run_of(params, run, *pair)} if run is not None else whole_grid(params)
            train_grid(theirs, runs, start, replace=may)
        if run is not None:
            show({"run": run, "file": str(run_file(run, *pair))})
    elif run is not None:
        use_devices(params)
        train_run(params, run, *pair, may)
    if run is not None:
        return
    with writing(*tables(COMPARISON)):
        text = tabulate(grid(params), load_split(data_file(params), "test"), COMPARISON)
    table = json.loads(pd.read_csv(COMPARISON / "table.csv").to_json(orient="records"))  # missing values as null
    show({"folder": str(COMPARISON), "table": table}, Text(fitting(text, console.width)))
    console.print(f"{COMPARISON}: table.md has all columns; table.csv, long.csv (one row per seed), wide.csv, top1.png")


def train_run(params: Params, run: str, teacher: str, student: str, replace: bool) -> None:
    """Train one run over all seeds; writes the students' test logits."""
    settings, path = params.variant(run, teacher, student), run_file(run, teacher, student)
    with training(run_logits(path)), progress() as bar:
        shown, figures = TrainingProgress(bar, run, settings.seed_list, settings.epochs), Students()
        test, recipe = load_split(data_file(params), "test"), parse_recipe(params.augment)
        refuse = None if replace else partial(refuse_other_run, path, settings, test_fingerprint=test.fingerprint)
        dataset = cached_views(params)
        inputs = shown.started(described(settings, dataset), refuse)
        with students(params, settings, dataset, shown.epoch, inputs, on_step=shown.step) as trained:
            seeds = write_run(path, run, figures.noted(trained, partial(kept_epoch, settings)), test, recipe)
    say(f"{path}: {seeds} seeds; `prepkd compare` makes the table")
    figures.show(f"Run {run}", {"run": run, "teacher": teacher, "student": student, "file": str(path)})

"""compare: one run of the comparison, or the tables of all of them -> results/compare/."""

import json
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from prepkd.data.prepared.file import load_split
from prepkd.display.text import counted
from prepkd.distillation.grid import RunKey
from prepkd.engines.engine import Engine, EngineOptions, refuse_without_ray
from prepkd.errors import InputError
from prepkd.project.outputs import run_output, tables
from prepkd.project.params import additions
from prepkd.report.grid import tabulate
from prepkd.report.markdown import fitting
from prepkd.stages._comparison import COMPARISON, added, added_file, grid, left_over, measure_added, run_file
from prepkd.stages._console import console, say, show
from prepkd.stages._devices import use_devices
from prepkd.stages._grid import train_as_tasks
from prepkd.stages._options import (
    AsJson,
    EngineOption,
    NumGpus,
    Overrides,
    ParamsFile,
    Quiet,
    Replace,
    may_replace,
    read_params,
)
from prepkd.stages._project import data_file, writing
from prepkd.stages._run import train_run
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
        typer.Option(min=1, help="Train the unfinished seeds of the grid, or of --run, this number at once."),
    ] = None,
    engine: EngineOption = Engine.LOCAL,
    num_gpus: NumGpus = None,
    add: Annotated[
        list[str],
        typer.Option("--add", metavar="NAME=FOLDER", help="Add students from another training loop; repeatable."),
    ] = [],
    measure: Annotated[
        str | None, typer.Option(metavar="NAME", help="Measure the students of --add or compare.add, and stop.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods: `--run` trains one of them over all seeds; without it `results/compare/` gets tables and a picture.

    They cover the grid in `compare`, runs x students x teachers: mean, std, n, and differences paired by seed, with the
    t interval and the p of the paired t test after Holm's correction. Seeds that were trained before are not trained again.
    long.csv has one row per seed, wide.csv one row per run and the pairs side by side. Without `models/teachers/NAME` agreement
    and genetic errors are left out.

    `--add NAME=FOLDER`, or the setting compare.add, adds a row: students from any training loop, one folder per seed (seed0,
    seed1, ...) with what `prepkd.save` writes, or model.safetensors and a model.json such as {"model": "convnet8"}.

    `--jobs` or `--engine ray` train the grid first. A training that fails is reported, and the others finish.
    """
    params = read_params(params_file, [*overrides, *additions(add)])
    if run is None and (teacher or student):
        raise InputError("--teacher and --student say which run to train; add --run")
    if measure is not None:
        if run or jobs or engine is Engine.RAY:
            raise InputError("--measure trains nothing; leave out --run, --jobs and --engine")
        measure_added(params, measure)
        return
    if run is not None and add:
        raise InputError("--add adds rows to the tables, and --run makes none; leave one out")
    pair, may = (teacher or params.pairs[0][0], student or params.pairs[0][1]), may_replace(replace)
    refuse_without_ray(engine, num_gpus=num_gpus)
    if jobs is not None or engine is Engine.RAY:
        only = None if run is None else RunKey(run, *pair)
        train_as_tasks(params, only, EngineOptions(engine, jobs, num_gpus), replace=may)
        if run is not None:
            show({"run": run, "file": str(run_file(run, *pair))})
    elif run is not None:
        use_devices(params)
        train_run(params, run, *pair, may)
    if run is not None:
        return
    with writing(*tables(COMPARISON), *(run_output(added_file(name)) for name in params.compare.add)):
        others = {name: added(params, name) for name in params.compare.add}
        text = tabulate(grid(params), load_split(data_file(params), "test"), COMPARISON, others)
    table = json.loads(pd.read_csv(COMPARISON / "table.csv").to_json(orient="records"))  # missing values as null
    show({"folder": str(COMPARISON), "table": table}, Text(fitting(text, console.width)))
    if left := left_over(params):
        more = f", as {counted(len(left) - 1, 'other file')} below {COMPARISON}/runs" if len(left) > 1 else ""
        say(f"{left[0]}: of a run that left the comparison{more}; remove it, so that other clones have equal files")
    if add:
        named = ", ".join(add).replace("=", ": ")
        say(f"to keep the added rows in `dvc repro`, name them in params.yaml: compare.add: {{{named}}}")
    console.print(f"{COMPARISON}: table.md has all columns; table.csv, long.csv (one row per seed), wide.csv, top1.png")

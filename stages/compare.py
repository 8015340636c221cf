"""compare: one run of the comparison, or the tables of all of them -> results/compare/."""

from pathlib import Path
from typing import Annotated, Any

import typer
from prepkd.data.prepared.file import load_split
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.project.params import Params
from prepkd.report.comparison import fitting
from prepkd.report.grid import Pair, tabulate
from prepkd.report.test_logits import RunFile
from prepkd.stages._console import advance, console, epoch_note, progress
from prepkd.stages._project import Overrides, ParamsFile, data_file, read_params, teacher_folders
from prepkd.stages._teaching import students
from prepkd.training.evaluation import predict
from prepkd.training.predictions import write_results
from prepkd.views import parse_recipe

FOLDER = Path("results/compare")


def compare(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="METHOD[,KEY=VALUE...]", help="Train this run, e.g. 'kd,ce_weight=0', and stop."),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="NAME[+NAME...]", help="With --run: its teacher, else the grid's first.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="With --run: its student, else the grid's first.")] = None,
) -> None:
    """Compare methods: `--run` trains one of them over all seeds; without it `results/compare/` gets tables and a picture.

    They hold the grid that `compare` lists, runs by students by teachers, and no more: mean, std, n, and differences paired
    by seed. long.csv has one row per seed, wide.csv one row per run and the pairs side by side.
    """
    params = read_params(params_file, overrides)
    if run is not None:
        train(params, run, teacher or params.pairs[0][0], student or params.pairs[0][1])
        return
    if teacher or student:
        raise InputError("--teacher and --student say which run to train; add --run")
    text = tabulate([pair_of(params, *names) for names in params.pairs], load_split(data_file(params), "test"), FOLDER)
    console.print(fitting(text, console.width), soft_wrap=False, markup=False)
    console.print(f"{FOLDER}: table.md has all columns; table.csv, long.csv (one row per seed), wide.csv, top1.png")


def train(params: Params, run: str, teacher: str, student: str) -> None:
    """Train one run over all seeds; writes the students' test logits."""
    settings = params.variant(run, teacher, student)
    with progress() as bar:
        task = bar.add_task(run, total=settings.epochs * len(settings.seed_list), note="")

        def on_epoch(seed: int, row: dict[str, float]) -> None:
            advance(bar, task, f"seed {seed}: {epoch_note(row)}")

        with students(params, settings, on_epoch) as trained:
            test, logits = load_split(data_file(params), "test"), {}
            made_from: dict[str, Any] = {"run": run, "student": student, "test_fingerprint": test.fingerprint}
            for seed, model, _, card in trained:
                device = next(model.parameters()).device
                logits[seed] = predict(model, Samples.of(test, device, parse_recipe(params.augment)))
                made_from |= {"training": card["training"], "teacher": card["inputs"]["teacher"]}
            write_results(run_file(run, teacher, student), logits, made_from)
    console.print(
        f"{run_file(run, teacher, student)}: {len(logits)} seeds; `prepkd compare` makes the table", markup=False
    )


def run_file(run: str, teacher: str, student: str) -> Path:
    """Return the file of a run's test logits."""
    return FOLDER / "runs" / teacher / student / f"{run}.safetensors"


def pair_of(params: Params, teacher: str, student: str) -> Pair:
    """Return one pair of the grid with its runs."""
    options = "" if len(params.pairs) == 1 else f" --teacher {teacher} --student {student}"
    runs = {
        run: RunFile(
            params.variant(run, teacher, student),
            run_file(run, teacher, student),
            f"prepkd compare --run '{run}'{options}",
        )
        for run in params.compare.runs
    }
    return Pair(teacher, student, teacher_folders(teacher.split("+")), runs)

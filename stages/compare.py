"""compare: one run of the comparison, or the table of all of them -> results/compare/."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from prepkd.errors import InputError
from prepkd.stages._shared import (
    Overrides,
    ParamsFile,
    advance,
    console,
    data_file,
    epoch_note,
    progress,
    read_params,
    recipe_of,
)

if TYPE_CHECKING:
    from prepkd.project.params import Params
    from torch import Tensor

FOLDER = Path("results/compare")
CAPTION = (
    "Teacher `{teacher}`: {top1:.2f} % test top-1. Mean +- standard deviation over n seeds, {epoch}; "
    "differences are paired by seed, mean +- standard error."
)


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
    by seed. long.csv has a row a seed, wide.csv a row a run and the pairs side by side.
    """
    params = read_params(params_file, overrides)
    if run is None:
        if teacher or student:
            raise InputError("--teacher and --student say which run to train; add --run")
        tabulate(params)
        return
    teacher, student = teacher or params.pairs[0][0], student or params.pairs[0][1]
    settings = params.variant(run, teacher, student)
    from prepkd.data.samples.samples import Samples
    from prepkd.stages._teaching import students
    from prepkd.training.evaluation import predict
    from prepkd.training.predictions import write_results

    with progress() as bar:
        task = bar.add_task(run, total=settings.epochs * len(settings.seed_list), note="")

        def on_epoch(seed: int, row: dict[str, float]) -> None:
            advance(bar, task, f"seed {seed}: {epoch_note(row)}")

        with students(params, settings, on_epoch) as trained:
            from prepkd.data.prepared.file import load_split

            test, logits = load_split(data_file(params), "test"), {}
            made_from: dict[str, Any] = {"run": run, "student": student, "test_fingerprint": test.fingerprint}
            for seed, model, _, card in trained:
                device = next(model.parameters()).device
                logits[seed] = predict(model, Samples.of(test, device, recipe_of(params)))
                made_from |= {"training": card["training"], "teacher": card["inputs"]["teacher"]}
            path = run_file(teacher, student, run)
            write_results(path, logits, made_from)
    console.print(f"{path}: {len(logits)} seeds; `prepkd compare` makes the table", markup=False)


def run_file(teacher: str, student: str, run: str) -> Path:
    """Where a run's test logits are."""
    return FOLDER / "runs" / teacher / student / f"{run}.safetensors"


def tabulate(params: "Params") -> None:
    """Read every run's test logits; write the tables and the picture, and show the table."""
    import pandas as pd
    import torch
    from prepkd.data.prepared.file import load_split
    from prepkd.report.bars import bars
    from prepkd.report.comparison import compare_runs, long_form, measure_runs, wide_form
    from prepkd.report.markdown import fitting, to_markdown, wide_markdown
    from prepkd.report.metrics import measure
    from prepkd.runtime.files import write_bytes
    from prepkd.stages._teaching import teacher_test_logits

    test = load_split(data_file(params), "test")
    labels = torch.from_numpy(test.labels)
    early = any(params.variant(run).early_stop for run in params.compare.runs)
    epoch = "with early stopping the best epoch on val" if early else "last epoch"
    longs, tables, texts = [], {}, []
    for teacher, student in params.pairs:
        answers = teacher_test_logits(params.variant(params.compare.runs[0], teacher, student), test.fingerprint)
        logits = {run: read_run(params, teacher, student, run, test.fingerprint) for run in params.compare.runs}
        figures = measure_runs(logits, answers, labels)
        pair = {"teacher": teacher, "student": student}
        longs.append(long_form(figures).assign(**pair))
        table, top1 = compare_runs(figures), 100 * measure(answers, labels)["top1"]
        tables[f"{teacher} -> {student}"] = table.assign(**pair), top1
        texts.append(to_markdown(table, CAPTION.format(teacher=teacher, top1=top1, epoch=epoch)))
    long, whole = pd.concat(longs), pd.concat([table for table, _ in tables.values()])
    wide = wide_form(long)
    if len(texts) > 1:
        texts = [f"**{title}**\n\n{text}" for title, text in zip(tables, texts, strict=True)]
        texts.insert(0, wide_markdown(wide, "Test top-1, %: mean +- standard deviation over the seeds."))
    text = "\n".join(texts)
    for name, frame in (("long", long), ("wide", wide), ("table", whole)):
        first = [column for column in ("teacher", "student", "run") if column in frame]
        ordered = frame[[*first, *(column for column in frame if column not in first)]]
        write_bytes(FOLDER / f"{name}.csv", ordered.to_csv(index=False, float_format="%.6g").encode())
    write_bytes(FOLDER / "table.md", text.encode())
    bars(tables, FOLDER / "top1.png")
    console.print(fitting(text, console.width), soft_wrap=False, markup=False)
    console.print(f"{FOLDER}: table.md has all columns; table.csv, long.csv (a row a seed), wide.csv, top1.png")


def read_run(params: "Params", teacher: str, student: str, run: str, test_fingerprint: str) -> "dict[int, Tensor]":
    """A run's test logits by seed; raises InputError where they are missing, or made by other settings or data."""
    from prepkd.errors import refuse_differences
    from prepkd.stages._teaching import check_trained_by, teachers_of
    from prepkd.training.predictions import read_results
    from prepkd.verification.provenance import check_taught_by

    path, settings = run_file(teacher, student, run), params.variant(run, teacher, student)
    pair = "" if len(params.pairs) == 1 else f" --teacher {teacher} --student {student}"
    remedy = f"run `prepkd compare --run '{run}'{pair}`"
    results = read_results(path, remedy)
    refuse_differences({"test_fingerprint": (results.made_from["test_fingerprint"], test_fingerprint)}, path, remedy)
    check_trained_by(results.made_from["training"], settings, path, remedy, but=set())
    check_taught_by(results.made_from["teacher"], teachers_of(settings), path, remedy)
    return results.logits

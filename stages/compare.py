"""compare: one run of the comparison, or the table of all of them -> results/compare/."""

from pathlib import Path
from typing import Annotated, Any

import typer
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

FOLDER = Path("results/compare")


def compare(
    params_file: ParamsFile = Path("params.yaml"),
    overrides: Overrides = [],
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="METHOD[,KEY=VALUE...]", help="Train this run, e.g. 'kd,ce_weight=0', and stop."),
    ] = None,
) -> None:
    """Compare methods: `--run` trains one of them over all seeds; without it `results/compare/` gets the table and a picture.

    The table holds the runs of `compare.runs` and no others: mean, std, n, and differences paired by seed.
    """
    params = read_params(params_file, overrides)
    if run is None:
        tabulate(params)
        return
    settings = params.variant(run)
    from prepkd.report.results import write_results
    from prepkd.samples import Samples
    from prepkd.stages._teaching import students
    from prepkd.train import predict

    with progress() as bar:
        task = bar.add_task(run, total=settings.epochs * len(settings.seed_list), note="")

        def on_epoch(seed: int, row: dict[str, float]) -> None:
            advance(bar, task, f"seed {seed}: {epoch_note(row)}")

        with students(params, settings, on_epoch) as trained:
            from prepkd.data import load_split

            test, logits = load_split(data_file(params), "test"), {}
            made_from: dict[str, Any] = {"run": run, "test_fingerprint": test.fingerprint}
            for seed, model, _, card in trained:
                device = next(model.parameters()).device
                logits[seed] = predict(model, Samples.of(test, device, recipe_of(params)))
                made_from |= {"training": card["training"], "teacher": card["inputs"]["teacher"]}
            path = FOLDER / "runs" / f"{run}.safetensors"
            write_results(path, logits, made_from)
    console.print(f"{path}: {len(logits)} seeds; `prepkd compare` makes the table", markup=False)


def tabulate(params: "object") -> None:
    """Read every listed run's test logits; write table.csv, table.md and top1.png, and show the table."""
    import torch
    from prepkd.data import load_split
    from prepkd.errors import refuse_differences
    from prepkd.files import write_bytes
    from prepkd.params import Params
    from prepkd.report.comparison import compare_runs, to_markdown
    from prepkd.report.metrics import measure
    from prepkd.report.plots import bars
    from prepkd.report.results import read_results
    from prepkd.stages._teaching import check_taught_by, check_training, teacher_test_logits

    assert isinstance(params, Params)
    test = load_split(data_file(params), "test")
    labels = torch.from_numpy(test.labels)
    answers = teacher_test_logits(params.distill, test.fingerprint)
    runs = {}
    for run in params.compare.runs:
        path = FOLDER / "runs" / f"{run}.safetensors"
        remedy = f"run `prepkd compare --run '{run}'`"
        results = read_results(path, remedy)
        refuse_differences(
            {"test_fingerprint": (results.made_from["test_fingerprint"], test.fingerprint)}, path, remedy
        )
        check_training(results.made_from["training"], params.variant(run), path, remedy, but=set())
        check_taught_by(results.made_from["teacher"], params.variant(run), path, remedy)
        runs[run] = results.logits
    table = compare_runs(runs, answers, labels)
    top1 = 100 * measure(answers, labels)["top1"]
    name = "+".join(params.distill.teacher_names)
    caption = (
        f"Teacher `{name}`: {top1:.2f} % test top-1. Mean +- standard deviation over n seeds, last epoch; "
        "differences are paired by seed, mean +- standard error."
    )
    write_bytes(FOLDER / "table.csv", table.to_csv(index=False, float_format="%.6g").encode())
    write_bytes(FOLDER / "table.md", to_markdown(table, caption).encode())
    bars(table, top1, FOLDER / "top1.png")
    console.print(to_markdown(table, caption), markup=False)
    console.print(f"{FOLDER}: table.md, table.csv, top1.png")

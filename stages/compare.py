"""compare: one run of the comparison, or the table of all of them -> results/compare/."""

from pathlib import Path
from typing import Annotated

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
    teacher_folder,
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
    from prepkd.stages._teaching import students
    from prepkd.train import Samples, predict

    with progress() as bar:
        task = bar.add_task(run, total=settings.epochs * len(settings.seed_list), note="")

        def on_epoch(seed: int, row: dict[str, float]) -> None:
            advance(bar, task, f"seed {seed}: {epoch_note(row)}")

        with students(params, settings, on_epoch) as trained:
            from prepkd.data import load_split

            test, logits = load_split(data_file(params), "test"), {}
            made_from: dict[str, object] = {"run": run, "test_fingerprint": test.fingerprint}
            for seed, model, _, card in trained:
                device = next(model.parameters()).device
                logits[seed] = predict(model, Samples.of(test, device).images)
                made_from["training"] = card["training"]
            write_results(FOLDER / "runs" / f"{run}.safetensors", logits, made_from)


def tabulate(params: "object") -> None:
    """Read every listed run's test logits; write table.csv, table.md and top1.png, and show the table."""
    import torch
    from prepkd.data import load_split
    from prepkd.errors import InputError
    from prepkd.files import write_bytes
    from prepkd.params import Params
    from prepkd.report.comparison import compare_runs, to_markdown
    from prepkd.report.metrics import measure
    from prepkd.report.plots import bars
    from prepkd.report.results import read_results

    assert isinstance(params, Params)
    test = load_split(data_file(params), "test")
    labels = torch.from_numpy(test.labels)
    name = params.distill.teacher
    teacher = read_results(teacher_folder(name) / "test_logits.safetensors", f"run `prepkd train-teacher {name}`")
    runs = {}
    for run in params.compare.runs:
        path = FOLDER / "runs" / f"{run}.safetensors"
        results = read_results(path, f"run `prepkd compare --run '{run}'`")
        if results.made_from["test_fingerprint"] != test.fingerprint:
            found, wanted = results.made_from["test_fingerprint"][:12], test.fingerprint[:12]
            raise InputError(
                f"{path}: test_fingerprint is {found}, expected {wanted}; run `prepkd compare --run '{run}'`"
            )
        runs[run] = results.logits
    table = compare_runs(runs, teacher.logits[0], labels)
    top1 = 100 * measure(teacher.logits[0], labels)["top1"]
    caption = (
        f"Teacher `{name}`: {top1:.2f} % test top-1. Mean +- standard deviation over n seeds, last epoch; "
        "differences are paired by seed, mean +- standard error."
    )
    write_bytes(FOLDER / "table.csv", table.to_csv(index=False, float_format="%.6g").encode())
    write_bytes(FOLDER / "table.md", to_markdown(table, caption).encode())
    bars(table, top1, FOLDER / "top1.png")
    console.print(to_markdown(table, caption), markup=False)
    console.print(f"{FOLDER}: table.md, table.csv, top1.png")

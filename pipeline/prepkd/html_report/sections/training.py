"""Learning curves of the students, with a band over the seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from prepkd.errors import InputError
from prepkd.html_report.charts.epochs import curves
from prepkd.html_report.parts import Figure, PageSection, Table, columns, number, text
from prepkd.html_report.results import Results
from prepkd.report.files import read_log

SPLITS = ("test", "val", "train")
Bands = list[dict[str, Any]]


def training(results: Results) -> PageSection:
    """Top-1 and training loss by epoch; raises InputError if a seed has no log."""
    seeds = results.settings.seed_list
    top1 = bands({split: logged(results.training, split, "top1", seeds) for split in SPLITS}, 100)
    if not top1:
        raise InputError(f"{results.training}: no seed has a log of top1; run `prepkd distill`")
    loss = bands({"train": logged(results.training, "train", "loss", seeds)}, 1)
    over = "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    caption = f"Line: mean over {over}. Band: lowest to highest seed. The axis covers the data."
    figures = [Figure("top1", "Top-1 by epoch", caption, curves(top1, "top-1, %"), _table("Top-1, %", top1))]
    if loss:
        figures.append(
            Figure("loss", "Training loss by epoch", caption, curves(loss, "loss", 0.0), _table("Training loss", loss))
        )
    last = {row["split"]: row for row in top1}  # rows are in the order of epochs
    said = ", ".join(f"{row['mean']:.2f} % on {split}" for split, row in last.items())
    lead = f"{results.settings.method}, {over}, {results.settings.epochs} epochs; in the last one {said}."
    return PageSection("training", "Learning curves", lead, figures)


def logged(folder: Path, group: str, name: str, seeds: list[int]) -> Mapping[int, pd.Series]:
    """A metric's logs by seed; empty if no seed has one. Raises InputError if only some seeds have it."""
    paths = {seed: folder / f"seed{seed}" / "plots" / "metrics" / group / f"{name}.tsv" for seed in seeds}
    if not any(path.is_file() for path in paths.values()):
        return {}
    return {seed: read_log(path, name) for seed, path in paths.items()}


def bands(logs: Mapping[str, Mapping[int, pd.Series]], factor: float) -> Bands:
    """Mean, lowest and highest seed by split and epoch; a seed stopped early counts only in its own epochs."""
    rows: Bands = []
    for split, seeds in logs.items():
        if not seeds:
            continue
        frame = pd.DataFrame(dict(seeds)).sort_index() * factor
        for epoch, mean, low, high in zip(
            frame.index, frame.mean(axis=1), frame.min(axis=1), frame.max(axis=1), strict=True
        ):
            rows.append({"epoch": int(epoch), "split": split, "mean": mean, "low": low, "high": high})
    return rows


def _table(caption: str, rows: Bands) -> Table:
    heads = columns(
        "epoch",
        "split",
        "mean",
        "lowest seed",
        "highest seed",
        numeric=("epoch", "mean", "lowest seed", "highest seed"),
    )
    cells = [
        [
            number(row["epoch"], "{:.0f}"),
            text(row["split"]),
            *(number(row[name], "{:.4g}") for name in ("mean", "low", "high")),
        ]
        for row in rows
    ]
    return Table(caption, heads, cells)

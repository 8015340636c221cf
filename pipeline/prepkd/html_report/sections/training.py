"""Learning curves of the students, with a band over the seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prepkd.display.text import counted
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.html_report.charts.epochs import curves
from prepkd.html_report.parts import Figure, PageSection, Table, columns, number, text
from prepkd.html_report.results import Results
from prepkd.report.files import read_log
from prepkd.training.stopping import kept_epoch

SPLITS = ("test", "val", "train")
Bands = list[dict[str, Any]]


def training(results: Results) -> PageSection:
    """Top-1 and training loss by epoch; raises InputError if a seed has no log."""
    seeds = results.settings.seed_list
    logs = {split: logged(results.training, split, "top1", seeds) for split in SPLITS}
    top1 = bands(logs, 100)
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
    kept = kept_epochs(results.settings, logs)
    said = ", ".join(f"{100 * value:.2f} % on {split}" for split, value in kept_means(logs, kept).items())
    lead = f"{results.settings.method}, {over}, {epochs_said(results.settings, kept)} {said}."
    return PageSection("training", "Learning curves", lead, figures)


def logged(folder: Path, group: str, name: str, seeds: list[int]) -> Mapping[int, pd.Series]:
    """A metric's logs by seed; empty if no seed has one. Raises InputError if only some seeds have it."""
    paths = {seed: folder / f"seed{seed}" / "plots" / "metrics" / group / f"{name}.tsv" for seed in seeds}
    if not any(path.is_file() for path in paths.values()):
        return {}
    return {seed: read_log(path, name) for seed, path in paths.items()}


def kept_epochs(settings: Distill, logs: Mapping[str, Mapping[int, pd.Series]]) -> dict[int, int]:
    """The epoch whose weights each seed keeps, from its logs of top-1 by split."""
    if settings.early_stop and logs["val"]:  # logged after every epoch whose logits are finite
        return {
            seed: int(log.index[kept_epoch(settings, [{"val/top1": one} for one in log])])
            for seed, log in logs["val"].items()
        }
    return {seed: int(log.index.max()) for seeds in logs.values() for seed, log in seeds.items()}


def kept_means(logs: Mapping[str, Mapping[int, pd.Series]], kept: Mapping[int, int]) -> dict[str, float]:
    """The mean over the seeds of each split's figure in the `kept` epochs, for the splits that have a log."""
    return {
        split: float(np.mean([log.reindex([kept[seed]]).to_numpy()[0] for seed, log in seeds.items()]))
        for split, seeds in logs.items()
        if seeds
    }


def epochs_said(settings: Distill, kept: Mapping[int, int]) -> str:
    """The number of epochs, and which of them the figures that follow are from, counted from 1."""
    epochs = counted(settings.epochs, "epoch")
    if settings.early_stop is None:
        return f"{epochs}; in the last one"
    numbers = ", ".join(str(epoch + 1) for epoch in kept.values())
    return f"at most {epochs}; in the kept {'ones' if len(kept) > 1 else 'one'}, the best on val ({numbers}),"


def bands(logs: Mapping[str, Mapping[int, pd.Series]], factor: float) -> Bands:
    """Mean, lowest and highest seed by split and epoch, from 1; a seed stopped early counts only in its own epochs."""
    rows: Bands = []
    for split, seeds in logs.items():
        if not seeds:
            continue
        frame = pd.DataFrame(dict(seeds)).sort_index() * factor
        for epoch, mean, low, high in zip(
            frame.index, frame.mean(axis=1), frame.min(axis=1), frame.max(axis=1), strict=True
        ):
            rows.append({"epoch": int(epoch) + 1, "split": split, "mean": mean, "low": low, "high": high})
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

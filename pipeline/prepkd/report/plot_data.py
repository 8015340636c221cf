"""The files for `dvc plots`: the confusion matrix and the learning curves as CSV, and their chart templates."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
from torch import Tensor

from prepkd.display.text import csv_cell
from prepkd.errors import InputError
from prepkd.report.files import read_log


def confusion(counts: Tensor, names: Sequence[str]) -> bytes:
    """Format a confusion matrix of counts int64 (K, K), actual by predicted, as CSV: one row per pair of classes that occurs.

    `share` is relative to the actual class's samples. The whole diagonal is written, so that each axis has every class. Names
    are escaped.
    """
    cells = list(map(csv_cell, names))
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    shown = counts.clone().fill_diagonal_(1).nonzero().tolist()
    rows = [(cells[i], cells[j], int(counts[i, j]), round(float(shares[i, j]), 6)) for i, j in shown]
    return pd.DataFrame(rows, columns=["actual", "predicted", "samples", "share"]).to_csv(index=False).encode()


def charts() -> dict[str, bytes]:
    """The Vega-Lite templates that `dvc plots` fills with the rows of several experiments, by file name."""
    found = files("prepkd") / "report" / "templates"
    return {name: (found / name).read_bytes() for name in ("confusion.json", "learning_curves.json")}


def learning_curves(curves: pd.DataFrame) -> bytes:
    """Top-1 per epoch as CSV (epoch, then one column per split), averaged over the seeds of `seed_curves`.

    A seed that was stopped early counts only in the epochs for which it was trained.
    """
    return curves.groupby("epoch").mean().drop(columns="seed").to_csv().encode()


def seed_curves(folder: Path, seeds: Sequence[int]) -> pd.DataFrame:
    """Top-1 of every seed and epoch, one column per split, from DVCLive's logs.

    The logs have no checksum: DVCLive writes them, and they affect only pictures. Raises InputError if a seed has no log, or a
    malformed one.
    """
    rows = []
    for seed in seeds:
        metrics = folder / f"seed{seed}" / "plots" / "metrics"
        files = sorted(metrics.glob("*/top1.tsv"))
        if not files:
            raise InputError(f"{metrics}: no top1.tsv; run `prepkd distill`")
        for file in files:
            curve = _curve(file)
            row = {"seed": seed, "epoch": curve.index, "split": file.parent.name, "top1": curve.to_numpy()}
            rows.append(pd.DataFrame(row))
    wide = pd.concat(rows).pivot_table(index=["seed", "epoch"], columns="split", values="top1")
    return wide.reset_index().rename_axis(columns=None)


def _curve(path: Path) -> pd.Series:
    """Read a log of top-1, a fraction, by epoch."""
    curve = read_log(path, "top1")
    if wrong := curve[~curve.between(0, 1)].tolist():
        raise InputError(f"{path}: damaged: top1 is {wrong[0]}; expected 0 to 1; run `prepkd distill`")
    return curve

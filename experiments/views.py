"""Compare students by the number of cached views: long.csv of two trials -> a Markdown table on standard output, a picture.

    python experiments/views.py VIEWS/long.csv CIFAR100/long.csv [PICTURE.png]

The first has one variant per number of views, and `online`; the second has the same runs from 32 views.
"""

import sys
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pairs import differences, spread
from prepkd.report.significance import difference_text
from tabulate import tabulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIVE = "online"
MANY = "32 views"
COLOURS = "#4c78a8", "#f58518", "#54a24b", "#e45756"


def main(views: Path, many: Path, picture: Path | None = None) -> None:
    """Print one row per number of views, with each run's difference to the live teacher; draw the accuracies."""
    long = together(pd.read_csv(views), pd.read_csv(many))
    print(table(long))
    if picture:
        draw(long, picture)


def together(views: pd.DataFrame, many: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of both trials for the runs and seeds of the first; columns variant, run, seed, top1_percent."""
    same = many["run"].isin(views["run"]) & many["seed"].isin(views["seed"])
    return pd.concat([views, many[same].assign(variant=MANY)], ignore_index=True)


def table(long: pd.DataFrame) -> str:
    """Return the table of top-1 by variant and run; p of the differences to `LIVE` is corrected for all of them."""
    runs = list(dict.fromkeys(long["run"]))
    variants = [one for one in dict.fromkeys(long["variant"]) if one != LIVE]
    rows: dict[str, list[str]] = {one: [one] for one in [*variants, LIVE]}
    by_run = {run: by_variant(long, run) for run in runs}
    cells = [(run, one) for run in runs for one in variants if {one, LIVE} <= by_run[run].keys()]
    found = differences({(run, one): paired(by_run[run][one], by_run[run][LIVE]) for run, one in cells})
    for run, top1 in by_run.items():
        for one, row in rows.items():
            row.append(spread(top1[one]) if one in top1 else "")
            row.append(difference_text(found[run, one]) if (run, one) in found else "")
    header = ["teacher's answers", *(name for run in runs for name in (f"`{run}`, top-1, %", f"difference to {LIVE}"))]
    return tabulate(list(rows.values()), header, tablefmt="pipe", disable_numparse=True)


def by_variant(long: pd.DataFrame, run: str) -> dict[str, pd.Series]:
    """Return a run's top-1 in percent by variant, indexed by seed."""
    rows = long[long["run"] == run]
    return {one: own.set_index("seed")["top1_percent"].sort_index() for one, own in rows.groupby("variant", sort=False)}


def paired(one: pd.Series, other: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return both series restricted to their common seeds."""
    common = one.index.intersection(other.index)
    return one[common], other[common]


def draw(long: pd.DataFrame, path: Path) -> "Axes":
    """Plot top-1 against the number of views, mean and standard deviation; the live teacher as a line. Return the axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for run, colour in zip(dict.fromkeys(long["run"]), cycle(COLOURS)):
        top1 = by_variant(long, run)
        live = top1.pop(LIVE, None)
        counts = sorted((int(one.split()[0]), values) for one, values in top1.items())
        axes.errorbar(
            [count for count, _ in counts],
            [values.mean() for _, values in counts],
            yerr=[values.std() for _, values in counts],
            color=colour,
            marker="o",
            capsize=3,
            label=run,
        )
        if live is not None:
            axes.axhline(live.mean(), color=colour, linestyle="--", label=f"{run}, live teacher")
    axes.set_xscale("log", base=2)
    ticks = sorted({int(one.split()[0]) for one in long["variant"] if one != LIVE})
    axes.set_xticks(ticks, [str(one) for one in ticks])
    seeds = long["seed"].nunique()
    axes.set_xlabel("cached views of each training image")
    axes.set_ylabel(f"test top-1, %: mean and std, n = {seeds}")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": "prepkd"})
    return axes


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

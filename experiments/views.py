"""Compare students by the number of cached views: a trial -> a Markdown table on standard output, and its views.png.

    python experiments/views.py VIEWS [TRIAL ...]

VIEWS has one variant per number of views, and `online`; each of its runs is taken with 32 views from the first TRIAL that has it.
A student of few views sees few different images too: `kd` minus `ce` under the same views is what the teacher adds.
Of an unfinished VIEWS nothing is bold.
"""

import math
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pairs import differences, spread
from prepkd.project.params import load_params
from prepkd.report.significance import difference_text
from seeds import marked, read_variants, trainings
from tabulate import tabulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIVE = "online"
CE = "ce"
MANY = "32 views"
COLOURS = "#4c78a8", "#f58518", "#54a24b", "#e45756"


def main(trial: Path, *others: Path) -> None:
    """Print one row per number of views, with each run's difference to 32 views and to `ce`; draw the accuracies."""
    rows, path = pd.read_csv(trial / "long.csv"), trial / "params.yaml"
    long = together(rows, [pd.read_csv(one / "long.csv") for one in others])
    planned = sum(trainings(load_params(path, own)) for own in read_variants(trial).values())
    print(marked(table(long, load_params(path, []).distill.epochs) + "\n", len(rows), planned), end="")
    draw(long, trial / "views.png")


def together(views: pd.DataFrame, others: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of the trial, and its runs and seeds with 32 views; columns variant, run, seed, top1_percent."""
    parts, missing = [views], set(views["run"])
    for rows in others:
        same = rows["run"].isin(missing) & rows["seed"].isin(views["seed"])
        parts.append(rows[same].assign(variant=MANY))
        missing -= set(rows["run"])
    return pd.concat(parts, ignore_index=True)


def table(long: pd.DataFrame, epochs: int) -> str:
    """Return the table of top-1 by variant and run; p is corrected for all differences, to 32 views and to `ce`."""
    runs, variants = list(dict.fromkeys(long["run"])), sorted(dict.fromkeys(long["variant"]), key=count)
    top1 = {key: rows.set_index("seed")["top1_percent"] for key, rows in long.groupby(["run", "variant"])}
    columns = [(run, other) for run in runs for other in ("", MANY, CE) if other != run and (other != CE or CE in runs)]
    pairs = {}
    for run, other in columns:
        for one in variants:
            mine, theirs = (run, one), (run, MANY) if other == MANY else (other, one)
            if mine != theirs and {mine, theirs} <= top1.keys():
                both = pd.concat([top1[mine], top1[theirs]], axis=1, join="inner")  # the seeds that both have
                if len(both):
                    pairs[run, other, one] = both.iloc[:, 0], both.iloc[:, 1]
    found = {key: difference_text(one) for key, one in differences(pairs).items()}
    found |= {(run, "", one): spread(values) for (run, one), values in top1.items()}
    rows = [
        [one, f"{max(1, epochs / count(one)):.3g}", *(found.get((run, other, one), "") for run, other in columns)]
        for one in variants
    ]
    names = [f"minus {other}" if other else f"`{run}`, top-1, %" for run, other in columns]
    header = ["views", "epochs per view", *names]
    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True)


def count(variant: str) -> float:
    """The number of views of a variant; of the live teacher it has no bound."""
    return math.inf if variant == LIVE else int(variant.split()[0])


def draw(long: pd.DataFrame, path: Path) -> "Axes":
    """Plot top-1 against the number of cached views, mean and standard deviation; return the axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for run, colour in zip(dict.fromkeys(long["run"]), cycle(COLOURS)):
        own = long[(long["run"] == run) & (long["variant"] != LIVE)]
        counts = sorted((count(one), rows["top1_percent"]) for one, rows in own.groupby("variant"))
        axes.errorbar(
            [views for views, _ in counts],
            [values.mean() for _, values in counts],
            yerr=[values.std() for _, values in counts],
            color=colour,
            marker="o",
            capsize=3,
            label=run,
        )
    axes.set_xscale("log", base=2)
    ticks = sorted({int(count(one)) for one in long["variant"] if one != LIVE})
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

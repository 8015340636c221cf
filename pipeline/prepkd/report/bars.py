"""The comparison's picture: test top-1 of each run as bars."""

from collections.abc import Mapping
from itertools import cycle
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from prepkd.display.pictures import missing_glyphs
from prepkd.runtime.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = [("#e45756", "--"), ("#f58518", "-."), ("#54a24b", ":"), ("#b279a2", "-")]  # colour and style per teacher


def bars(tables: Mapping[str, tuple[pd.DataFrame, Mapping[str, float]]], path: Path) -> None:
    """Draw each run's test top-1 with its standard deviation as a PNG, one panel per title.

    `tables` maps a panel's title to its table and its teachers' top-1 by name. Tables have the columns run, n, top1_percent,
    top1_std_percent; accuracies are in percent.
    """
    # Importing matplotlib takes a second, and `prepkd compare --run` draws nothing.
    from matplotlib.figure import Figure

    heights = [0.45 * len(table) + 1.2 + 0.2 * len(teachers) for table, teachers in tables.values()]
    figure = Figure(figsize=(7, sum(heights)), layout="constrained")
    panels = figure.subplots(len(tables), height_ratios=heights, squeeze=False)
    for axes, (title, (table, teachers)) in zip(panels[:, 0], tables.items(), strict=True):
        _panel(axes, table, teachers)
        if len(tables) > 1:
            axes.set_title(title, loc="left", size=10, pad=8 + 15 * len(teachers))  # above the legend's lines
    with missing_glyphs(), atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": "prepkd"})


def _panel(axes: "Axes", table: pd.DataFrame, teachers: Mapping[str, float]) -> None:
    places, top1 = range(len(table))[::-1], table["top1_percent"]
    spread = table["top1_std_percent"].astype(float)  # NaN, hence no error bar, for a single seed
    axes.barh(places, top1, xerr=spread, color="#4c78a8", ecolor="#222222", capsize=3)
    for (name, accuracy), (colour, style) in zip(teachers.items(), cycle(LINES)):
        axes.axvline(accuracy, color=colour, linestyle=style, label=f'teacher "{name}": {accuracy:.2f} %')
    axes.set_yticks(places, table["run"])
    low = min([float((top1 - spread.fillna(0.0)).min()), *teachers.values()])
    high = max([float((top1 + spread.fillna(0.0)).max()), *teachers.values()])
    # Start the axis where the differences are visible; its label says so.
    start = max(0.0, floor(10 * (low - 0.35 * (high - low) - 0.1)) / 10)
    axes.set_xlim(start, max(high + 0.1 * (high - start), start + 0.1))  # all can be 0 %
    for place, mean in zip(places, top1, strict=True):
        axes.text(start, place, f" {mean:.2f}", color="white", size=9, va="center")
    seeds = ", ".join(map(str, sorted(set(table["n"]))))
    what = "one seed" if seeds == "1" else f"mean and standard deviation over n = {seeds} seeds"
    axes.set_xlabel(f"test top-1, %: {what} (axis from {start:g})", loc="right")  # long names leave little room
    if teachers:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)  # grows to the left
    axes.spines[["top", "right"]].set_visible(False)

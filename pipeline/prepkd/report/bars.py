"""The comparison's picture: test top-1 of each run as bars."""

from collections.abc import Mapping
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from prepkd.runtime.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def bars(tables: Mapping[str, tuple[pd.DataFrame, float]], path: Path) -> None:
    """Draw each run's test top-1 with its standard deviation (PNG), one panel per titled (table, teacher's top-1).

    Tables have the columns run, n, top1, std; accuracies in percent.
    """
    # Importing matplotlib takes a second, and `prepkd compare --run` draws nothing.
    from matplotlib.figure import Figure

    heights = [0.45 * len(table) + 1.4 for table, _ in tables.values()]
    figure = Figure(figsize=(7, sum(heights)), layout="constrained")
    panels = figure.subplots(len(tables), height_ratios=heights, squeeze=False)
    for axes, (title, (table, teacher)) in zip(panels[:, 0], tables.items(), strict=True):
        _panel(axes, table, teacher)
        if len(tables) > 1:
            axes.set_title(title, loc="left", size=10, pad=22)
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": "prepkd"})


def _panel(axes: "Axes", table: pd.DataFrame, teacher: float) -> None:
    places = range(len(table))[::-1]
    spread = table["std"].astype(float)  # NaN, and so no error bar, for a single seed
    axes.barh(places, table["top1"], xerr=spread, color="#4c78a8", ecolor="#222222", capsize=3)
    axes.axvline(teacher, color="#e45756", linestyle="--", label=f"teacher {teacher:.2f} %")
    axes.set_yticks(places, table["run"])
    low = float((table["top1"] - spread.fillna(0.0)).min())
    high = max(teacher, float((table["top1"] + spread.fillna(0.0)).max()))
    # Start the axis where the differences are visible; its label says so.
    start = max(0.0, floor(10 * (low - 0.35 * (high - low) - 0.1)) / 10)
    axes.set_xlim(start, high + 0.1 * (high - start))
    for place, mean in zip(places, table["top1"], strict=True):
        axes.text(start, place, f" {mean:.2f}", color="white", size=9, va="center")
    seeds = ", ".join(map(str, sorted(set(table["n"]))))
    what = "one seed" if seeds == "1" else f"mean and standard deviation over n = {seeds} seeds"
    axes.set_xlabel(f"test top-1, %: {what} (axis from {start:g})", loc="right")  # long names leave little room
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)

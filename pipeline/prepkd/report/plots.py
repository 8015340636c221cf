"""What `dvc plots show` draws, and the comparison's picture."""

from collections.abc import Mapping, Sequence
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor

from prepkd.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def confusion(logits: Tensor, labels: Tensor, names: Sequence[str]) -> bytes:
    """Actual and predicted class of every test sample as CSV, for DVC's confusion template."""
    predicted = [names[i] for i in logits.argmax(dim=-1).tolist()]
    frame = pd.DataFrame({"actual": [names[i] for i in labels.tolist()], "predicted": predicted})
    return frame.to_csv(index=False).encode()


def learning_curves(folder: Path, seeds: Sequence[int]) -> bytes:
    """Top-1 of every epoch as CSV (epoch, then a column a split), the mean over the seeds, read from DVCLive's logs.

    Seeds that were stopped early count as far as they were trained.
    """
    rows = []
    for seed in seeds:
        metrics = folder / f"seed{seed}" / "plots" / "metrics"
        files = sorted(metrics.glob("*/top1.tsv"))
        if not files:
            raise InputError(f"{metrics}: no top1.tsv; run `prepkd distill`")
        for file in files:
            table = pd.read_csv(file, sep="\t")
            rows.append(pd.DataFrame({"epoch": table["step"], "split": file.parent.name, "top1": table["top1"]}))
    means = pd.concat(rows).pivot_table(index="epoch", columns="split", values="top1")
    return means.to_csv().encode()


def offline_page() -> bytes:
    """A template for `dvc plots show` that carries Vega itself, so that the page loads nothing from the net."""
    from vl_convert import javascript_bundle

    bundle = javascript_bundle("window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;")
    # A plain script, for DVC's own call vegaEmbed while the page is read; in a function, as the bundle expects a module's scope.
    # A script element ends at the first "</script", wherever that stands.
    script = "(() => {'use strict';" + bundle.replace("</script", "<\\/script") + "})()"
    style = "body{font:14px sans-serif;margin:2em;display:flex;flex-wrap:wrap;gap:2em}"
    page = (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>prepkd</title>{{refresh_tag}}<style>{style}</style>'
    )
    return f"{page}<script>{script}</script></head><body>{{plot_divs}}</body></html>\n".encode()


def bars(tables: Mapping[str, tuple[pd.DataFrame, float]], path: Path) -> None:
    """Test top-1 of each run with its standard deviation as bars (PNG), a panel for each titled (table, teacher's top-1).

    Tables have run, n, top1, std; all in percent.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = [0.45 * len(table) + 1.4 for table, _ in tables.values()]
    figure, panels = pyplot.subplots(
        len(tables), figsize=(7, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axes, (title, (table, teacher)) in zip(panels[:, 0], tables.items(), strict=True):
        _panel(axes, table, teacher)
        if len(tables) > 1:
            axes.set_title(title, loc="left", size=10, pad=22)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)


def _panel(axes: "Axes", table: pd.DataFrame, teacher: float) -> None:
    places = range(len(table))[::-1]
    spread = table["std"].astype(float)  # NaN, and so no error bar, where there is one seed
    axes.barh(places, table["top1"], xerr=spread, color="#4c78a8", ecolor="#222222", capsize=3)
    axes.axvline(teacher, color="#e45756", linestyle="--", label=f"teacher {teacher:.2f} %")
    axes.set_yticks(places, table["run"])
    low = float((table["top1"] - spread.fillna(0.0)).min())
    high = max(teacher, float((table["top1"] + spread.fillna(0.0)).max()))
    # Bars start where the differences can be seen; the axis says so.
    start = max(0.0, floor(10 * (low - 0.35 * (high - low) - 0.1)) / 10)
    axes.set_xlim(start, high + 0.1 * (high - start))
    for place, mean in zip(places, table["top1"], strict=True):
        axes.text(start, place, f" {mean:.2f}", color="white", size=9, va="center")
    seeds = ", ".join(map(str, sorted(set(table["n"]))))
    what = "one seed" if seeds == "1" else f"mean and standard deviation over n = {seeds} seeds"
    axes.set_xlabel(f"test top-1, %: {what} (axis from {start:g})")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)

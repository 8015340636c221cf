"""Charts by epoch: curves with a band over the seeds, and the spread of the temperatures."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from prepkd.html_report.theme import MUTED, STUDENT, TEACHER, chart_spec, data, domain, sparse_axis

COLOURS = {"test": STUDENT, "val": TEACHER, "train": MUTED}
DASHES = {"test": [1, 0], "val": [6, 3], "train": [3, 3]}  # distinguishable without colours too


def curves(rows: Sequence[Mapping[str, Any]], title: str, least: float | None = None) -> dict[str, Any]:
    """Chart a line at the mean and a band from low to high; `rows` have epoch, split, mean, low, high."""
    splits = [split for split in COLOURS if any(row["split"] == split for row in rows)]
    span = domain([value for row in rows for value in (row["low"], row["high"])], least=least)
    scale = alt.Scale(domain=span, nice=False, zero=False)
    legend = alt.Legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=2)
    colours = alt.Scale(domain=splits, range=[COLOURS[one] for one in splits])
    colour = alt.Color("split:N", scale=colours, legend=legend)
    dashes = alt.Scale(domain=splits, range=[DASHES[one] for one in splits])
    dash = alt.StrokeDash("split:N", scale=dashes, legend=legend)
    base = alt.Chart(data(rows)).encode(x=epoch_axis(rows), color=colour)
    band = base.mark_area(opacity=0.18).encode(
        y=alt.Y("low:Q", scale=scale, title=title, axis=sparse_axis()), y2="high:Q"
    )
    tooltip = [
        alt.Tooltip("split:N"),
        alt.Tooltip("epoch:Q"),
        *(alt.Tooltip(f"{name}:Q", format=".4g") for name in ("mean", "low", "high")),
    ]
    line = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("mean:Q", scale=scale, title=title, axis=sparse_axis()), strokeDash=dash, tooltip=tooltip
    )
    return chart_spec(alt.layer(band, line), 300)


def spread(rows: Sequence[Mapping[str, Any]], title: str) -> dict[str, Any]:
    """Chart the spread: a line at the mean, bands of the middle 90 % and 50 %, dotted lines at the extremes.

    `rows` have epoch, mean, min, max, and p5, p25, p75, p95 if known.
    """
    span = domain([value for row in rows for value in (row["min"], row["max"])])
    scale = alt.Scale(domain=span, nice=False, zero=False)

    def y(name: str) -> alt.Y:
        return alt.Y(f"{name}:Q", scale=scale, title=title, axis=sparse_axis())

    base = alt.Chart(data(rows)).encode(x=epoch_axis(rows))
    names = [name for name in ("min", "p5", "p25", "mean", "p75", "p95", "max") if name in rows[0]]
    tooltip = [alt.Tooltip("epoch:Q"), *(alt.Tooltip(f"{name}:Q", format=".3f") for name in names)]
    layers = [base.mark_line(color=MUTED, strokeWidth=1, strokeDash=[2, 3]).encode(y=y(end)) for end in ("min", "max")]
    if "p5" in rows[0]:
        for (low, high), opacity in {("p5", "p95"): 0.18, ("p25", "p75"): 0.28}.items():
            layers.append(base.mark_area(color=STUDENT, opacity=opacity).encode(y=y(low), y2=f"{high}:Q"))
    layers.append(base.mark_line(color=STUDENT, strokeWidth=2).encode(y=y("mean"), tooltip=tooltip))
    return chart_spec(alt.layer(*layers), 300)


def epoch_axis(rows: Sequence[Mapping[str, Any]]) -> alt.X:
    """The axis of epochs, from the first to the last."""
    epochs = [row["epoch"] for row in rows]
    scale = alt.Scale(domain=[min(epochs), max(max(epochs), min(epochs) + 1)], nice=False)
    return alt.X("epoch:Q", scale=scale, title="epoch", axis=sparse_axis(tickMinStep=1, format="d", grid=False))

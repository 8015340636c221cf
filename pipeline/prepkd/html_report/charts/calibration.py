"""The reliability diagram, and the histogram of confidence below it."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from prepkd.html_report.theme import MUTED, by_model, chart_spec, data, sparse_axis

Rows = Sequence[Mapping[str, Any]]


def reliability_chart(rows: Rows, models: Sequence[str]) -> dict[str, Any]:
    """Chart accuracy against confidence; `rows` have model, confidence and accuracy in [0, 1], and the bin's share of samples."""
    scale = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X("confidence:Q", scale=scale, title="mean confidence in the bin", axis=sparse_axis(format="%"))
    y = alt.Y("accuracy:Q", scale=scale, title="accuracy in the bin", axis=sparse_axis(format="%"))
    perfect = alt.Chart(data([{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]))
    base = alt.Chart(data(rows)).encode(x=x, y=y, color=by_model(models))
    tooltip = [
        alt.Tooltip("model:N"),
        *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("confidence", "accuracy")),
        alt.Tooltip("share:Q", title="of the samples", format=".1%"),
    ]
    area = alt.Size("share:Q", scale=alt.Scale(domain=[0, 1], range=[20, 500]), legend=None)
    layers = [
        perfect.mark_line(color=MUTED, strokeWidth=1, strokeDash=[4, 4]).encode(x=x, y=y),
        base.mark_line(strokeWidth=1.5),
        base.mark_circle(opacity=0.85).encode(size=area, tooltip=tooltip),
    ]
    return chart_spec(alt.layer(*layers), 340, square=True)


def confidence_chart(rows: Rows, models: Sequence[str]) -> dict[str, Any]:
    """Chart each bin's share as bars side by side; `rows` have model, low and high edge of the bin, and share."""
    width = 1 / len(models)
    place = {model: n for n, model in enumerate(models)}
    bars = [
        {
            **row,
            "nothing": 0,
            "from": row["low"] + (row["high"] - row["low"]) * width * place[row["model"]],
            "to": row["low"] + (row["high"] - row["low"]) * width * (place[row["model"]] + 1),
        }
        for row in rows
    ]
    x = alt.X("from:Q", scale=alt.Scale(domain=[0, 1], nice=False), title="confidence", axis=sparse_axis(format="%"))
    y = alt.Y("share:Q", title="samples", scale=alt.Scale(zero=True), axis=sparse_axis(format="%"))
    tooltip = [
        alt.Tooltip("model:N"),
        *(alt.Tooltip(f"{name}:Q", format=".0%") for name in ("low", "high")),
        alt.Tooltip("share:Q", format=".1%"),
    ]
    chart = (
        alt.Chart(data(bars))
        .mark_rect()
        .encode(x=x, x2="to:Q", y=y, y2="nothing:Q", color=by_model(models), tooltip=tooltip)
    )
    return chart_spec(chart, 340)

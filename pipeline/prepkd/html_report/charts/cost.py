"""Accuracy against a model's size or its arithmetic."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from prepkd.html_report.theme import by_model, data, domain, finished


def cost_chart(rows: Sequence[Mapping[str, Any]], field: str, title: str) -> dict[str, Any]:
    """`rows` have name, model (student or teacher), top1 in percent, and `field`, above 0, on a logarithmic axis."""
    models = [model for model in ("student", "teacher") if any(row["model"] == model for row in rows)]
    costs = [row[field] for row in rows]
    # Half a decade of room, so that names beside the dots stay inside.
    across = alt.Scale(type="log", domain=[min(costs) / 2, max(costs) * 4], nice=False)
    along = alt.Scale(domain=domain([row["top1"] for row in rows], 0.15), nice=False, zero=False)
    x = alt.X(f"{field}:Q", scale=across, title=title, axis=alt.Axis(format="~s", labelOverlap=True, tickCount=6))
    y = alt.Y("top1:Q", scale=along, title="test top-1, %")
    tooltip = [
        alt.Tooltip("name:N"),
        alt.Tooltip(f"{field}:Q", title=title, format=","),
        alt.Tooltip("top1:Q", title="top-1, %", format=".2f"),
    ]
    base = alt.Chart(data(rows)).encode(x=x, y=y, color=by_model(models))
    layers = [
        base.mark_circle(size=110, opacity=0.9).encode(tooltip=tooltip),
        alt.Chart(data(rows)).mark_text(align="left", dx=9, fontSize=11, limit=150).encode(x=x, y=y, text="label:N"),
    ]
    return finished(alt.layer(*layers), 300)

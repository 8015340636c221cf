"""Accuracy against a model's parameters or multiply-adds."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

import altair as alt

from prepkd.html_report.theme import by_model, chart_spec, data, domain, sparse_axis

MAX_DECADES = 4  # an axis with more decades is labelled only at powers of ten


def ticks(low: float, high: float) -> list[float]:
    """Tick values of a logarithmic axis: powers of ten, and 2 and 5 times those if the axis has few decades.

    >>> ticks(40, 3000)
    [50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
    """
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= MAX_DECADES else (1,)
    return [value for k in decades for step in steps if low <= (value := step * 10.0**k) <= high]


def cost_chart(rows: Sequence[Mapping[str, Any]], field: str, title: str) -> dict[str, Any]:
    """Chart top-1 against `field` (> 0, logarithmic); `rows` have name, model (student or teacher), top1 in percent, `field`."""
    models = [model for model in ("student", "teacher") if any(row["model"] == model for row in rows)]
    costs = [row[field] for row in rows]
    # Half a decade of room, so that names beside the dots stay inside.
    across = alt.Scale(type="log", domain=[min(costs) / 2, max(costs) * 4], nice=False)
    along = alt.Scale(domain=domain([row["top1"] for row in rows], 0.15), nice=False, zero=False)
    x = alt.X(
        f"{field}:Q",
        scale=across,
        title=title,
        axis=sparse_axis(format="~s", values=ticks(min(costs) / 2, max(costs) * 4)),
    )
    y = alt.Y("top1:Q", scale=along, title="test top-1, %", axis=sparse_axis())
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
    return chart_spec(alt.layer(*layers), 300)

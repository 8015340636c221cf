"""Accuracy by run: every seed as a dot, the mean as a tick, the standard deviation as a bar."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from prepkd.html_report.theme import MUTED, ROW, STUDENT, TEACHER, chart_spec, data, domain, sparse_axis

FARTHEST = 1.5  # in ranges of the seeds' top-1; a teacher farther away would squeeze the dots into a corner


def accuracy_chart(
    seeds: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]], teachers: Mapping[str, float]
) -> dict[str, Any]:
    """Chart top-1 in percent: `seeds` have run, seed, top1; `runs` have run, mean, low, high, in the order of rows.

    Teachers are lines at their top-1, if it is near enough.
    """
    shown = nearby_teachers(teachers, [one["top1"] for one in seeds])
    ends = [value for one in runs for value in (one["low"], one["high"])]
    span = domain([*(one["top1"] for one in seeds), *ends, *shown.values()])
    scale = alt.Scale(domain=span, nice=False, zero=False)
    y = alt.Y("run:N", sort=[one["run"] for one in runs], title=None, axis=alt.Axis(ticks=False, domain=False))
    x = alt.X("top1:Q", scale=scale, title="test top-1, %", axis=sparse_axis())
    base = alt.Chart(data(runs)).encode(y=y)
    layers: list[alt.Chart] = [
        base.mark_rule(color=MUTED, strokeWidth=1.5).encode(
            x=alt.X("low:Q", scale=scale, axis=sparse_axis()), x2="high:Q"
        ),
        alt.Chart(data(seeds))
        .mark_circle(size=64, color=STUDENT, opacity=0.65)
        .encode(x=x, y=y, tooltip=[*tips("run", "seed"), alt.Tooltip("top1:Q", title="top-1, %", format=".2f")]),
        base.mark_tick(color=STUDENT, thickness=3, size=18, opacity=1).encode(
            x=alt.X("mean:Q", scale=scale, axis=sparse_axis()),
            tooltip=[*tips("run"), alt.Tooltip("mean:Q", title="mean top-1, %", format=".2f")],
        ),
    ]
    if shown:
        lines = alt.Chart(data([{"teacher": name, "top1": top1} for name, top1 in shown.items()]))
        layers.append(
            lines.mark_rule(color=TEACHER, strokeDash=[5, 4], strokeWidth=1.5).encode(
                x=x, tooltip=[*tips("teacher"), alt.Tooltip("top1:Q", title="top-1, %", format=".2f")]
            )
        )
    return chart_spec(alt.layer(*layers), ROW * len(runs))


def nearby_teachers(teachers: Mapping[str, float], values: Sequence[float]) -> dict[str, float]:
    """The teachers whose top-1 is at most `FARTHEST` ranges of the values away from them."""
    low, high = min(values), max(values)
    room = FARTHEST * max(high - low, 0.5)
    return {name: top1 for name, top1 in teachers.items() if low - room <= top1 <= high + room}


def tips(*names: str) -> list[alt.Tooltip]:
    """Tooltips of text fields."""
    return [alt.Tooltip(f"{name}:N") for name in names]

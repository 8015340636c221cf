"""Accuracy by class, student against teacher: rows of pairs for a few classes, a scatter for many."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from prepkd.html_report.theme import MUTED, ROW, STUDENT, by_model, chart_spec, data, domain, sparse_axis

MAX_ROWS = 24  # classes shown as rows with names; more become a scatter
APART = 2.0  # least distance in percentage points between two names, one above the other
NAMED = 8  # named classes of the scatter: those with the largest gaps


def class_chart(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Chart `rows` of class, student and optionally teacher, accuracies in percent, in the order of rows."""
    return pairs(rows) if len(rows) <= MAX_ROWS else scatter(rows)


def pairs(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row per class: both accuracies, joined by a line."""
    models = ["student", *(["teacher"] if "teacher" in rows[0] else [])]
    span = domain([row[model] for row in rows for model in models])
    scale = alt.Scale(domain=[span[0], min(span[1], 101.0)], nice=False, zero=False)
    y = alt.Y("class:N", sort=[row["class"] for row in rows], title=None, axis=alt.Axis(ticks=False, domain=False))
    each = [{"class": row["class"], "model": model, "top1": row[model]} for row in rows for model in models]
    layers: list[alt.Chart] = []
    if "teacher" in rows[0]:
        joined = alt.Chart(data(rows)).mark_rule(color=MUTED, strokeWidth=2, opacity=0.5)
        layers.append(joined.encode(y=y, x=alt.X("student:Q", scale=scale, axis=sparse_axis()), x2="teacher:Q"))
    tooltip = [alt.Tooltip("class:N"), alt.Tooltip("model:N"), alt.Tooltip("top1:Q", title="accuracy, %", format=".1f")]
    dots = alt.Chart(data(each)).mark_circle(size=90, opacity=0.9)
    x = alt.X("top1:Q", scale=scale, title="accuracy on the class, %", axis=sparse_axis())
    layers.append(dots.encode(x=x, y=y, color=by_model(models), tooltip=tooltip))
    return chart_spec(alt.layer(*layers), ROW * len(rows))


def scatter(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A scatter of the student's accuracy against the teacher's, with the line of equality; without a teacher, a histogram."""
    if "teacher" not in rows[0]:
        x = alt.X("student:Q", bin=alt.Bin(maxbins=20), title="accuracy on the class, %")
        bars = alt.Chart(data(rows)).mark_bar(color=STUDENT).encode(x=x, y=alt.Y("count():Q", title="classes"))
        return chart_spec(bars, 300)
    low, high = domain([row[model] for row in rows for model in ("student", "teacher")], 0.03, least=0.0)
    high = min(high, 101.0)
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    x = alt.X("teacher:Q", scale=scale, title="teacher, % of the class", axis=sparse_axis())
    y = alt.Y("student:Q", scale=scale, title="student, % of the class", axis=sparse_axis())
    equal = alt.Chart(data([{"student": end, "teacher": end} for end in (low, high)]))
    tooltip = [alt.Tooltip("class:N"), *(alt.Tooltip(f"{name}:Q", format=".1f") for name in ("student", "teacher"))]
    layers = [
        equal.mark_line(color=MUTED, strokeWidth=1, strokeDash=[4, 4]).encode(x=x, y=y),
        alt.Chart(data(rows)).mark_circle(color=STUDENT, size=56, opacity=0.6).encode(x=x, y=y, tooltip=tooltip),
        *(
            alt.Chart(data(names))
            .mark_text(align=align, dx=away, fontSize=11, limit=130)
            .encode(x=x, y=y, text="class:N")
            for align, away, names in named(rows, (low + high) / 2)
        ),
    ]
    return chart_spec(alt.layer(*layers), 460, square=True)


def named(rows: Sequence[Mapping[str, Any]], middle: float) -> list[tuple[Any, int, list[Mapping[str, Any]]]]:
    """The rows with the largest gaps whose names do not overlap; names of dots right of the middle are placed to their left."""
    chosen: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda row: -abs(row["student"] - row["teacher"])):
        if len(chosen) < NAMED and all(abs(row["student"] - other["student"]) >= APART for other in chosen):
            chosen.append(row)
    sides = {False: ("left", 7), True: ("right", -7)}
    return [(*side, [one for one in chosen if (one["teacher"] > middle) is right]) for right, side in sides.items()]

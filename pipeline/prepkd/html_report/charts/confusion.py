"""The confusion matrix, normalised by row, and the errors of student and teacher by kind."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from prepkd.html_report.theme import BAD, GROUND, INK, ROW, STUDENT, TEACHER, chart_spec, data, sparse_axis

MAX_NAMED_CLASSES = 30  # classes whose names fit along an axis
OPAQUE = 0.6  # opacity above which a number is written in the background colour
MAX_NUMBERED_CLASSES = 12  # classes whose shares fit into the cells
KINDS = {
    "student wrong, teacher right": STUDENT,
    "both wrong, same class (genetic)": BAD,
    "both wrong, different classes": TEACHER,
}


def confusion_chart(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Chart `cells` of actual, predicted and the share of the actual class (> 0); `names` are the classes in order.

    The opacity is the square root of the share; for confusions it is relative to the largest one, because with 100 classes a
    confusion of 4 % must be visible beside a diagonal of 80 %.
    """
    most = max((cell["share"] for cell in cells if cell["actual"] != cell["predicted"]), default=1.0)
    named = len(names) <= MAX_NAMED_CLASSES
    axis = alt.Axis(ticks=False, domain=False, labels=named, labelLimit=90)
    turned = alt.Axis(ticks=False, domain=False, labels=named, labelLimit=90, orient="top", labelAngle=-45)
    order = list(names)
    titles = ("predicted", "actual") if named else (f"predicted, {len(names)} classes in order", "actual")
    if all(len(name) <= 2 for name in names):
        turned = alt.Axis(ticks=False, domain=False, labels=named, orient="top", labelAngle=0)
    tight = alt.Scale(domain=order, paddingInner=0.04 if named else 0, paddingOuter=0)
    x = alt.X("predicted:N", sort=order, scale=tight, title=titles[0], axis=turned)
    y = alt.Y("actual:N", sort=order, scale=tight, title=titles[1], axis=axis)
    marked = [
        {**cell, "kind": "right", "seen": cell["share"] ** 0.5}
        if cell["actual"] == cell["predicted"]
        else {**cell, "kind": "confused", "seen": (cell["share"] / most) ** 0.5}
        for cell in cells
    ]
    colour = alt.Color("kind:N", scale=alt.Scale(domain=["right", "confused"], range=[STUDENT, BAD]))
    seen = alt.Opacity("seen:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 1]), legend=None)
    tooltip = [
        alt.Tooltip("actual:N"),
        alt.Tooltip("predicted:N"),
        alt.Tooltip("share:Q", title="share of the class", format=".1%"),
    ]
    matrix = alt.Chart(data(marked)).mark_rect().encode(x=x, y=y, color=colour, opacity=seen, tooltip=tooltip)
    if len(names) > MAX_NUMBERED_CLASSES:
        return chart_spec(matrix, max(320, min(640, 22 * len(names))), square=True)
    # Shares below half a percent would read 0.
    numbers = [
        {**cell, "percent": f"{100 * cell['share']:.0f}", "ink": GROUND if cell["seen"] > OPAQUE else INK}
        for cell in marked
        if cell["share"] >= 0.005
    ]
    ink = alt.Color("ink:N", scale=None, legend=None)
    written = alt.Chart(data(numbers)).mark_text(fontSize=11).encode(x=x, y=y, text="percent:N", color=ink)
    return chart_spec(alt.layer(matrix, written), 34 * len(names) + 40, square=True)


def errors_chart(rows: Sequence[Mapping[str, Any]], order: Sequence[str]) -> dict[str, Any]:
    """Chart one stacked bar per run; `rows` have run, kind (a key of KINDS) and the percentage of the test set."""
    kinds = list(KINDS)
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=list(KINDS.values())),
        legend=alt.Legend(columns=1, labelLimit=300),
    )
    stacked = [{**row, "place": kinds.index(row["kind"])} for row in rows]
    chart = (
        alt.Chart(data(stacked))
        .mark_bar(stroke=GROUND, strokeWidth=0.5)
        .encode(
            x=alt.X("percent:Q", title="test samples, %", stack="zero", axis=sparse_axis()),
            y=alt.Y("run:N", sort=list(order), title=None, axis=alt.Axis(ticks=False, domain=False)),
            color=colour,
            order=alt.Order("place:Q"),
            tooltip=[alt.Tooltip("run:N"), alt.Tooltip("kind:N"), alt.Tooltip("percent:Q", format=".2f")],
        )
    )
    return chart_spec(chart, ROW * len(order))

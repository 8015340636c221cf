"""The charts' style: colours are variables of the page's style sheet, so that dark mode and print need no second chart."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

STUDENT, TEACHER = "var(--student)", "var(--teacher)"
BAD, GROUND = "var(--bad)", "var(--ground)"
INK, MUTED, LINE = "var(--ink)", "var(--muted)", "var(--line)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
ROW = 26  # pixels of a named row

CONFIG: dict[str, Any] = {
    "aria": False,  # the figure has one label and a table; thousands of labelled marks do not help
    "background": "transparent",
    "font": FONT,
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelLimit": 150,
    },
    "legend": {
        "orient": "top",
        "direction": "horizontal",
        "labelColor": INK,
        "titleColor": MUTED,
        "labelFontSize": 12,
        "title": None,
        "labelLimit": 240,
        "columns": 3,
    },
    "text": {"color": INK, "fontSize": 12},
    "view": {"stroke": LINE},
}


def chart_spec(chart: alt.Chart | alt.LayerChart | alt.FacetChart, height: int, square: bool = False) -> dict[str, Any]:
    """The spec of a chart with the width of its container and `height` pixels; if `square`, at most as high as it is wide."""
    # A label or padding that overflows would make the page scroll sideways on a phone.
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    spec: dict[str, Any] = chart.properties(width="container", height=height, autosize=fit).to_dict(validate=True)
    spec["config"] = CONFIG
    spec["usermeta"] = {"square": square}  # read by the page's script
    spec.pop("$schema", None)  # a URL; vega-embed would only compare its version
    return spec


def data(records: Iterable[Mapping[str, Any]]) -> alt.Data:
    """Inline data, so that names stay values and never become part of an expression."""
    return alt.Data(values=list(records))  # type: ignore[no-untyped-call]


def domain(values: Sequence[float], pad: float = 0.06, least: float | None = None) -> list[float]:
    """The range of the values padded at both ends, not below `least`."""
    low, high = min(values), max(values)
    room = pad * (high - low) or max(abs(high), 1.0) * 0.01
    start = low - room
    return [start if least is None else max(start, least), high + room]


def by_model(models: Sequence[str]) -> alt.Color:
    """Colours of student and teacher by the field `model`, in the order of `models`."""
    colours = {"student": STUDENT, "teacher": TEACHER}
    return alt.Color("model:N", scale=alt.Scale(domain=list(models), range=[colours[one] for one in models]))


def sparse_axis(**settings: Any) -> alt.Axis:
    """A quantitative axis with few ticks: labels need room on a phone."""
    return alt.Axis(tickCount=6, labelOverlap=True, **settings)

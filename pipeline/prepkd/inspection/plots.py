"""The picture of a store: one panel a subject, for what there are figures of."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prepkd.runtime.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#4c78a8", "#e45756")
WORST = 10


def picture(report: dict[str, Any], title: str, path: Path) -> None:
    """Draw the figures of `prepkd inspect` (PNG), whole or not at all."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [draw for section, draw in PANELS.items() if section in report]
    rows = -(-len(panels) // 2)
    figure, grid = pyplot.subplots(rows, 2, figsize=(10, 3.1 * rows + 0.4), layout="constrained", squeeze=False)
    figure.suptitle(title, size=11)
    for axes, draw in zip(grid.flat, panels, strict=False):
        draw(axes, report)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def _views(axes: "Axes", report: dict[str, Any]) -> None:
    errors = [100 * error for error in report["teacher_error"]["per_view"]]
    axes.plot(range(len(errors)), errors, color=COLOURS[0], marker="o", markersize=4 if len(errors) < 50 else 2)
    axes.axhline(100 * report["teacher_error"]["mean"], color="#888888", linestyle="--", label="mean")
    axes.locator_params(axis="x", integer=True)
    axes.set(title="Teacher error per view", xlabel="view", ylabel="teacher error, %")
    axes.legend(frameon=False)


def _classes(axes: "Axes", report: dict[str, Any]) -> None:
    worst = report["class_error"][:WORST][::-1]
    axes.barh(range(len(worst)), [100 * row["error"] for row in worst], color=COLOURS[0])
    axes.set_yticks(range(len(worst)), [_short(row["class"]) for row in worst])
    axes.set(title=f"Teacher error per class, the {len(worst)} worst", xlabel="teacher error, %", ylabel="class")


def _adjustment(axes: "Axes", report: dict[str, Any]) -> None:
    counts = report["ka"]["samples_by_wrong_views"]
    share = [100 * count / report["ka"]["samples"] for count in counts]
    axes.bar(range(len(share)), share, color=COLOURS[0])
    for views, count in enumerate(counts) if len(counts) <= 10 else ():
        axes.text(views, share[views], f"{count:,}", ha="center", va="bottom", size=8)
    axes.margins(y=0.12)
    axes.locator_params(axis="x", integer=True)
    axes.set(
        title="What KA would change",
        xlabel=f"views of {len(counts) - 1} in which the teacher is wrong",
        ylabel="samples, %",
    )


def _histograms(name: str, title: str, label: str) -> "Callable[[Axes, dict[str, Any]], None]":
    def draw(axes: "Axes", report: dict[str, Any]) -> None:
        found = report[name]
        for colour, (tau, values) in zip(COLOURS, _by_tau(found), strict=False):
            share = [100 * count / sum(values["histogram"]) for count in values["histogram"]]
            text = f"tau {tau}, mean {values['mean']:.2f}"
            axes.stairs(share, found["edges"], color=colour, fill=True, alpha=0.25)
            axes.stairs(share, found["edges"], color=colour, linewidth=1.5, label=text)
        axes.set(title=title, xlabel=label, ylabel="(view, sample) rows, %")
        axes.legend(frameon=False)

    return draw


def _temperature(axes: "Axes", report: dict[str, Any]) -> None:
    dtd = report["dtd"]
    for colour, (method, values) in zip(COLOURS, dtd["methods"].items(), strict=True):
        share = [100 * count / dtd["rows"] for count in values["histogram"]]
        text = f"{method}, mean {values['mean']:.2f}, clamped {values['clamped']:.1%}"
        axes.stairs(share, dtd["edges"], color=colour, fill=True, alpha=0.25)
        axes.stairs(share, dtd["edges"], color=colour, linewidth=1.5, label=text)
    axes.set(title="Temperatures under DTD", xlabel="temperature tau", ylabel="(view, sample) rows, %")
    # Above the bars, wherever they stand.
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    axes.legend(frameon=False, loc="upper left", fontsize=9)


def _by_tau(found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(tau, values) for tau, values in found.items() if tau != "edges"]


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


# By the section of the report that a panel draws.
PANELS: dict[str, "Callable[[Axes, dict[str, Any]], None]"] = {
    "teacher_error": _views,
    "class_error": _classes,
    "confidence": _histograms("confidence", "Confidence", "largest softmax(z / tau)"),
    "entropy": _histograms("entropy", "Entropy", "entropy of softmax(z / tau), nats"),
    "ka": _adjustment,
    "dtd": _temperature,
}

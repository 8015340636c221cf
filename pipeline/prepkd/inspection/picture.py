"""The picture of an inspection: one panel per available subject."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prepkd.display.pictures import missing_glyphs
from prepkd.display.text import printable
from prepkd.inspection.softness import Histograms
from prepkd.inspection.store_inspection import StoreInspection
from prepkd.inspection.teacher_errors import AdjustedRows, ClassError, ViewErrors
from prepkd.inspection.temperatures import Temperatures
from prepkd.runtime.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#4c78a8", "#e45756")
WORST = 10


def draw_picture(inspection: StoreInspection, title: str, path: Path) -> None:
    """Draw the panels and write them as PNG, atomically."""
    # Importing matplotlib takes a second, and an unfinished store has no picture.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = list(_panels(inspection))
    rows = -(-len(panels) // 2)
    # A `$` in a name is no formula.
    with rc_context({"text.parse_math": False}), missing_glyphs(), atomic_file(path) as temporary:
        figure = Figure(figsize=(10, 3.1 * rows + 0.4), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False)
        figure.suptitle(printable(title), size=11)
        for axes, draw in zip(grid.flat, panels, strict=False):
            draw(axes)
            axes.spines[["top", "right"]].set_visible(False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": "prepkd"})


def _panels(inspection: StoreInspection) -> "Iterator[Callable[[Axes], None]]":
    """Yield one drawing function per panel, in the picture's order."""
    if logits := inspection.logits:
        yield partial(_view_errors, errors=logits.teacher_error)
        if logits.class_error is not None:
            yield partial(_class_errors, errors=logits.class_error)
        if logits.confidence:
            yield partial(_histograms, found=logits.confidence, title="Confidence", label="largest softmax(z / tau)")
        if logits.entropy:
            label = "entropy of softmax(z / tau), nats"
            yield partial(_histograms, found=logits.entropy, title="Entropy", label=label)
        if logits.ka:
            yield partial(_adjustment, ka=logits.ka)
    if inspection.dtd:
        yield partial(_temperatures, dtd=inspection.dtd)


def _view_errors(axes: "Axes", errors: ViewErrors) -> None:
    values = [100 * error for error in errors.per_view]
    axes.plot(range(len(values)), values, color=COLOURS[0], marker="o", markersize=4 if len(values) < 50 else 2)
    axes.axhline(100 * errors.mean, color="#888888", linestyle="--", label="mean")
    axes.locator_params(axis="x", integer=True)
    axes.set(title="Teacher error per view", xlabel="view", ylabel="teacher error, %")
    axes.legend(frameon=False)


def _class_errors(axes: "Axes", errors: list[ClassError]) -> None:
    worst = errors[:WORST][::-1]
    axes.barh(range(len(worst)), [100 * one.error for one in worst], color=COLOURS[0])
    axes.set_yticks(range(len(worst)), [_short(one.name) for one in worst])
    axes.set(title=f"Teacher error per class, the {len(worst)} worst", xlabel="teacher error, %", ylabel="class")


def _adjustment(axes: "Axes", ka: AdjustedRows) -> None:
    counts = ka.samples_by_wrong_views
    share = [100 * count / ka.samples for count in counts]
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


def _histograms(axes: "Axes", found: Histograms, title: str, label: str) -> None:
    for colour, (tau, one) in zip(COLOURS, found.by_tau.items(), strict=False):
        share = [100 * count / sum(one.histogram) for count in one.histogram]
        axes.stairs(share, found.edges, color=colour, fill=True, alpha=0.25)
        axes.stairs(share, found.edges, color=colour, linewidth=1.5, label=f"tau {tau}, mean {one.mean:.2f}")
    axes.set(title=title, xlabel=label, ylabel="(view, sample) rows, %")
    axes.legend(frameon=False)


def _temperatures(axes: "Axes", dtd: Temperatures) -> None:
    for colour, (method, one) in zip(COLOURS, dtd.methods.items(), strict=True):
        share = [100 * count / dtd.rows for count in one.histogram]
        text = f"{method}, mean {one.mean:.2f}, clamped {one.clamped:.1%}"
        axes.stairs(share, dtd.edges, color=colour, fill=True, alpha=0.25)
        axes.stairs(share, dtd.edges, color=colour, linewidth=1.5, label=text)
    axes.set(title="Temperatures under DTD", xlabel="temperature tau", ylabel="(view, sample) rows, %")
    # Leave room for the legend above the bars.
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    axes.legend(frameon=False, loc="upper left", fontsize=9)


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= 18 else f"{name[:17]}…"

"""Statistics of a store's logits as tables; `caption` names the views."""

from collections.abc import Iterator

from prepkd.display.tables import TitledTable, cell, pairs, plain_table, titled
from prepkd.inspection.logit_statistics import LogitStatistics
from prepkd.inspection.softness import Histograms
from prepkd.inspection.teacher_errors import AdjustedRows, ClassError, ViewErrors

WORST = 5


def logit_tables(logits: LogitStatistics, caption: str) -> Iterator[TitledTable]:
    """Yield a table per available statistic."""
    yield pairs("Teacher error per view, all views", _view_errors(logits.teacher_error))
    if logits.class_error is not None:
        yield _class_errors(logits.class_error, len(logits.views_read))
    if logits.ka:
        yield pairs(f"What KA would change (the teacher is wrong), {caption}", _adjustment(logits.ka))
    if logits.confidence:
        yield _histograms(logits.confidence, f"Confidence (largest softmax), {caption}")
    if logits.entropy:
        yield _histograms(logits.entropy, f"Entropy, nats, {caption}")


def _view_errors(errors: ViewErrors) -> Iterator[tuple[str, str]]:
    yield "min", f"{errors.min:.2%}, view {errors.per_view.index(errors.min)}"
    yield "median", f"{errors.median:.2%}"
    yield "mean", f"{errors.mean:.2%}"
    yield "max", f"{errors.max:.2%}, view {errors.per_view.index(errors.max)}"


def _class_errors(errors: list[ClassError], views: int) -> TitledTable:
    table = plain_table()
    table.add_column("class", overflow="fold")
    table.add_column("error", justify="right")
    table.add_column("most often taken for", overflow="fold")
    for one in errors[:WORST]:
        table.add_row(cell(one.name), f"{one.error:.2%}", cell(one.taken_for or ""))
    worst = f", the worst {WORST} of {len(errors)}" if len(errors) > WORST else ""
    return titled(f"Teacher error per class{worst}, over {views:,} view{'s' * (views != 1)}", table)


def _adjustment(ka: AdjustedRows) -> Iterator[tuple[str, str]]:
    def share(count: int, of: int) -> str:
        return f"{count:,} of {of:,} ({count / of:.2%})"

    yield "(view, sample) rows", share(ka.rows_wrong, ka.rows)
    yield "samples, in any view", share(ka.samples_wrong_in_a_view, ka.samples)
    yield "samples, in every view", share(ka.samples_wrong_in_all_views, ka.samples)


def _histograms(found: Histograms, title: str) -> TitledTable:
    """Merge bins in pairs, so that the table fits a screen."""
    means = ", ".join(f"{one.mean:.3f} at tau {tau}" for tau, one in found.by_tau.items())
    table = plain_table()
    table.add_column("from - to")
    for tau in found.by_tau:
        table.add_column(f"tau {tau}", justify="right")
        table.add_column("")
    edges = found.edges[::2]
    for low, high, place in zip(edges, edges[1:], range(0, 2 * len(edges), 2), strict=False):
        cells = []
        for one in found.by_tau.values():
            share = sum(one.histogram[place : place + 2]) / sum(one.histogram)
            cells += [f"{share:.1%}", "█" * round(10 * share)]
        table.add_row(f"{low:.2f} - {high:.2f}", *cells)
    return titled(f"{title}; mean {means}", table)

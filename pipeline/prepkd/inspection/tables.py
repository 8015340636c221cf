"""An inspection as tables that fit a narrow terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from prepkd.display.tables import TitledTable, cell, plain_table, titled
from prepkd.display.text import printable
from prepkd.inspection.feature_statistics import FeatureStatistics
from prepkd.inspection.logit_tables import logit_tables
from prepkd.inspection.store_inspection import StoreInspection
from prepkd.inspection.store_tables import store_tables
from prepkd.inspection.temperatures import Temperatures


def tables(inspection: StoreInspection) -> Group:
    """Every table of an inspection, and a line per missing part."""
    return Group(*_parts(inspection))


def _parts(inspection: StoreInspection) -> Iterator[RenderableType]:
    for section in store_tables(inspection.facts):
        yield from section
    if inspection.logits:
        for section in logit_tables(inspection.logits, inspection.views_caption):
            yield from section
    if inspection.features:
        yield from _feature_table(inspection.features, inspection.views_caption)
    if inspection.dtd:
        yield from _temperature_table(inspection.dtd, inspection.views_caption)
    for line in inspection.left_out:
        yield Text(f"\nLeft out: {printable(line)}")


def _feature_table(features: FeatureStatistics, caption: str) -> TitledTable:
    """One row per named tensor; `caption` names the views behind mean, deviation and zeros."""
    table = plain_table()
    table.add_column("tensor", overflow="fold")
    for heading in ("shape", "type", "mean", "std", "zeros", "min", "max"):
        table.add_column(heading, justify="right")
    for one in features.tensors:
        shape = " x ".join(map(str, one.shape)) or "1"
        figures = [f"{value:.3g}" for value in (one.mean, one.std)]
        ends = [f"{value:.3g}" for value in (one.min, one.max)]
        table.add_row(cell(one.name), shape, one.dtype, *figures, f"{one.zeros:.1%}", *ends)
    return titled(f"Tensors, {caption}; min and max of all views", table)


def _temperature_table(dtd: Temperatures, caption: str) -> TitledTable:
    """One column per method, under its settings; `caption` names the views that were read."""
    settings = dtd.settings
    table = plain_table()
    table.add_column("")
    for method in dtd.methods:
        own = settings[method.removeprefix("dtd-")]
        table.add_column(f"{method}\n" + "\n".join(f"{k} {v:g}" for k, v in own.items()), justify="right")
    methods = dtd.methods.values()
    table.add_row("min", *(f"{one.min:.3f}" for one in methods))
    table.add_row("mean", *(f"{one.mean:.3f}" for one in methods))
    table.add_row("max", *(f"{one.max:.3f}" for one in methods))
    table.add_row("held by the floor", *(f"{one.at_floor:.2%}" for one in methods))
    table.add_row("held by the ceiling", *(f"{one.at_ceiling:.2%}" for one in methods))
    title = (
        f"Temperatures under DTD for {dtd.student}, {caption}; tau_0 {settings['tau_0']:g}, clamped to "
        f"{settings['tau_min']:g} - {settings['tau_max']:g}; the weights' mean is over batches of {dtd.batch_size}"
    )
    if dtd.doubt:
        title += f"\nwarning: {dtd.doubt}"
    return titled(title, table)

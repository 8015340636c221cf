"""An inspection as tables that fit a narrow terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from prepkd.display.text import printable
from prepkd.inspection.feature_table import feature_table
from prepkd.inspection.logit_tables import logit_tables
from prepkd.inspection.store_inspection import StoreInspection
from prepkd.inspection.store_tables import store_tables
from prepkd.inspection.temperature_table import temperature_table


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
        yield from feature_table(inspection.features, inspection.views_caption)
    if inspection.dtd:
        yield from temperature_table(inspection.dtd, inspection.views_caption)
    for line in inspection.left_out:
        yield Text(f"\nLeft out: {printable(line)}")

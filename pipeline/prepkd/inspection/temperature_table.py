"""A student's DTD temperatures as a table."""

from prepkd.display.tables import TitledTable, plain_table, titled
from prepkd.inspection.temperatures import Temperatures


def temperature_table(dtd: Temperatures, caption: str) -> TitledTable:
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

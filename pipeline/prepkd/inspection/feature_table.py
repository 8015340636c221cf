"""Statistics of a store of features as a table."""

from prepkd.display.tables import TitledTable, cell, plain_table, titled
from prepkd.inspection.feature_statistics import FeatureStatistics


def feature_table(features: FeatureStatistics, caption: str) -> TitledTable:
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

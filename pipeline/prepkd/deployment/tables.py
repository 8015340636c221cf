"""Predictions and exported formats as terminal tables; predictions as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from prepkd.deployment.predict import Prediction
from prepkd.display.tables import plain_table
from prepkd.display.text import csv_cell

COLUMNS = ("image", "rank", "class", "probability")


def prediction_table(predictions: Sequence[Prediction]) -> Table:
    """One row per image: its class, its probability, and the next classes; readable from 60 columns."""
    table = plain_table()
    more = any(len(one.classes) > 1 for one in predictions)
    for name in ("image", "class", "probability", *(["then"] if more else [])):
        table.add_column(name, overflow="fold", justify="right" if name == "probability" else "left")
    for one in predictions:
        (first, share), *others = one.classes
        then = [", ".join(f"{name} {other:.1%}" for name, other in others)] if more else []
        table.add_row(str(one.image), first, f"{share:.1%}", *then)
    return table


def prediction_csv(predictions: Sequence[Prediction]) -> str:
    """One line per image and class, the largest probability first, below a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in predictions:
        for rank, (name, share) in enumerate(one.classes, start=1):
            writer.writerow([csv_cell(str(one.image)), rank, csv_cell(name), f"{share:.6g}"])
    return text.getvalue()


def export_table(checks: Mapping[str, Any]) -> Table:
    """One row per exported file: size, difference from the student, top-1, median time per call."""
    table = plain_table()
    table.add_column("file", overflow="fold")
    for name in ("bytes", "max diff", "same", "top-1", "ms, 1", "ms, 64"):
        table.add_column(name, justify="right")
    for file, one in checks["formats"].items():
        times = [f"{one['latency'][batch]['median_ms']:.3g}" for batch in ("1", "64")]
        shares = [f"{one['max_difference']:.1e}", f"{one['agreement']:.2%}", f"{one['top1']:.2%}"]
        table.add_row(file, f"{one['bytes']:,}", *shares, *times)
    return table

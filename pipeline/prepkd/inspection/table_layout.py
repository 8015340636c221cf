"""Layout that all tables of an inspection share: narrow columns under a bold title."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

Section = tuple[Text, Table]


def plain_table() -> Table:
    """An empty table without borders."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)


def pairs(title: str, rows: Iterable[tuple[str, str]]) -> Section:
    """A table of names and values, without a header."""
    table = plain_table()
    table.show_header = False
    table.add_column(style="dim", max_width=22)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return titled(title, table)


def titled(title: str, table: Table) -> Section:
    """A title above a table."""
    # Not the table's own title: rich wraps that to the table's width.
    return Text(f"\n{title}", style="bold"), table

"""Common layout of terminal tables: narrow columns under a bold title."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from prepkd.display.text import printable

TitledTable = tuple[Text, Table]


def plain_table(*, header: bool = True) -> Table:
    """An empty table without borders."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=header)


def two_columns(width: int | None = None) -> Table:
    """An empty table of names, at least `width` wide, and their lines, without a header."""
    table = plain_table(header=False)
    table.add_column(no_wrap=True, min_width=width)
    table.add_column(overflow="fold")
    return table


def cell(*lines: str) -> Text:
    """A cell of lines from a store, with line breaks within them and control characters escaped."""
    return Text("\n".join(map(printable, lines)))


def pairs(title: str, rows: Iterable[tuple[str, str | list[str]]]) -> TitledTable:
    """A table of names and values, one or several lines each, without a header."""
    table = plain_table(header=False)
    table.add_column(style="dim", max_width=24)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(cell(name), cell(value) if isinstance(value, str) else cell(*value))
    return titled(title, table)


def titled(title: str, table: Table) -> TitledTable:
    """A title above a table."""
    # Not the table's own title: rich wraps that to the table's width.
    return Text(f"\n{printable(title)}", style="bold"), table

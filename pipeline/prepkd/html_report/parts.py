"""The parts of the page as plain data: tables, figures, cards, sections. Text is unescaped; the template escapes it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any, ClassVar, Literal

Tone = Literal["", "good", "bad", "quiet"]
Spec = Mapping[str, Any]  # of Vega-Lite


@dataclass(frozen=True)
class Cell:
    """A cell's text, and the number by which it is sorted, None for text cells."""

    text: str
    value: float | None = None
    tone: Tone = ""


@dataclass(frozen=True)
class Column:
    """A column's heading; `numeric` columns are aligned to the right and sorted by value, largest first."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table that the reader can sort, and filter if `filtered`."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    filtered: bool = False
    title: str = ""  # for a table without a figure
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """A chart: its Vega-Lite spec, a caption that says what it shows, and the table of its data."""

    name: str
    title: str
    caption: str
    spec: Spec
    table: Table
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Bar:
    """One class of a distribution: its share in 0 to 1; `marked` is the label."""

    name: str
    share: float
    marked: bool = False


@dataclass(frozen=True)
class Card:
    """A sample: a picture (data URI), facts about it, and titled distributions."""

    picture: str
    description: str
    title: str
    facts: Sequence[str] = ()
    bars: Mapping[str, Sequence[Bar]] = field(default_factory=dict)


@dataclass(frozen=True)
class Gallery:
    """Cards under a title."""

    title: str
    caption: str
    cards: Sequence[Card]
    filtered: bool = False
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Facts:
    """Names and values, one or several lines each."""

    title: str
    rows: Sequence[tuple[str, Sequence[str]]]
    folded: bool = False
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class PageSection:
    """A section of the page: `lead` sums up the figures in a sentence or two; `notes` list omissions."""

    name: str
    title: str
    lead: str
    parts: Sequence[Table | Figure | Gallery | Facts]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class LeftOut:
    """A section that the page lacks, and one line with the reason and the command that provides its results."""

    title: str
    why: str


@dataclass(frozen=True)
class Tile:
    """A headline figure."""

    title: str
    figure: str
    note: str = ""


def text(value: object, tone: Tone = "") -> Cell:
    """A cell of text."""
    return Cell(str(value), None, tone)


def number(value: float | None, form: str = "{:.2f}") -> Cell:
    """A cell of a number, empty if there is none."""
    if value is None or isnan(value):
        return Cell("", None)
    return Cell(form.format(value), float(value))


def columns(*titles: str, numeric: Iterable[str] = ()) -> list[Column]:
    """Columns by title; those in `numeric` hold numbers."""
    chosen = set(numeric)
    return [Column(title, title in chosen) for title in titles]

"""The list of terms and a method's terms as text and tables, readable from 80 columns."""

import json
from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from prepkd.catalogue.requirements import Pair
from prepkd.catalogue.rows import MethodSummary, TermRow, needs, slots
from prepkd.display.tables import two_columns
from prepkd.display.text import size


def term_tables(rows: Sequence[TermRow]) -> Iterator[Table | str]:
    """Yield each slot's meaning and a table of its terms: sentence, needs, settings with defaults, source."""
    width = max(len(row.name) for row in rows)
    for slot, meaning in slots().items():
        yield f"\n{slot}: {meaning}"
        table = two_columns(width)
        for row in rows:
            if row.slot == slot:
                table.add_row(row.name, "\n".join(_about(row)))
        yield table
    if features := [row for row in rows if row.slot == "features"]:
        yield f"\nBytes, beside the logits, as a store keeps them: {features[0].models}."


def method_table(used: MethodSummary, models: Pair, missing: Sequence[str]) -> Table:
    """A method's terms by slot with their weights, their needs, and missing settings or files."""
    table = two_columns(len("standardisation"))
    table.add_row("method", used.method)
    for row in used.rows:
        weight = f", weight {used.weights[row.name]:g}" if row.name in used.weights else ""
        table.add_row(row.slot, "\n".join([f"{row.name}{weight}", *filter(None, [row.note]), *_settings(row.settings)]))
    for line in _asked_by_all(used.rows):
        table.add_row("needs", line)
    if used.bytes:
        every = used.bytes * models.views * models.samples
        figures = f"{used.bytes:,} per (view, sample), {size(every)} for {models.views} x {models.samples:,}"
        stores = ", ".join(f"{name} {one:,}" for name, one in used.entries.items())
        table.add_row("bytes", f"{figures}, beside the logits\nstores: {stores}\n{models.described}")
    for line in missing or ["nothing"]:
        table.add_row("missing", line)
    return table


def _about(row: TermRow) -> Iterator[str]:
    yield row.summary
    yield from _asks(row)
    yield from _settings(row.settings, "settings" if row.slot == "schemes" else "defaults")
    if row.note:
        yield row.note
    yield row.source


def _asks(row: TermRow) -> Iterator[str]:
    if lines := needs(row):
        yield f"needs: {'; '.join(lines)}"


def _asked_by_all(rows: Sequence[TermRow]) -> list[str]:
    """All needs of a method's terms: the logits once, raw if any term needs raw ones; then those of each feature term."""
    logits = [row for row in rows if row.teacher and row.slot != "features"]
    raw = [row for row in logits if row.raw_logits]
    lines = [line for row in rows if row not in logits and row.teacher for line in needs(row)]
    views = [line for row in logits if row.views == 2 for line in needs(row)[1:2]]
    lines = [*needs((raw or logits)[0])[:1], *views, *lines] if logits else lines
    draws = [name for row in rows for name in row.draws]
    return [*lines, *([f"values per sample and epoch: {', '.join(draws)}"] if draws else [])] or ["no teacher"]


def _settings(settings: Mapping[str, object], title: str = "settings") -> Iterator[str]:
    if settings:
        # In the form that -S takes; without spaces, no line breaks within a setting.
        pairs = (f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in settings.items())
        yield f"{title}: " + " ".join(pairs).replace('"', "")

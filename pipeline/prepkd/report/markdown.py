"""The comparison's tables as Markdown."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from prepkd.report.comparison import BASELINES, difference_column, wide_column
from prepkd.report.significance import ALPHA, LEVEL, Difference, difference_text


def to_markdown(table: pd.DataFrame, caption: str) -> str:
    """The table of `compare_runs` above a caption, each accuracy with its spread; significant differences are bold."""
    shown = pd.DataFrame({"run": table["run"].map("`{}`".format), "n": table["n"]})
    shown["test top-1, %"] = [
        _with_spread(m, s) for m, s in zip(table["top1_percent"], table["top1_std_percent"], strict=True)
    ]
    for name in baselines(table):
        shown[f"minus {name}"] = [_difference(row, table, name) for row in table.to_dict("records")]
    shown["NLL"] = table["nll_nats"].map("{:.3f}".format)
    for title in ("ECE", "agreement", "genetic errors"):
        values = table[f"{title.lower().replace(' ', '_')}_percent"]
        shown[f"{title}, %"] = values.map("{:.2f}".format).where(values.notna(), "")
    return f"{shown.to_markdown(index=False, disable_numparse=True)}\n\n{caption}\n"


def caption(
    table: pd.DataFrame,
    teachers: Mapping[str, float],
    epoch: str,
    absent: Sequence[Path] = (),
    added: Mapping[str, Path] = MappingProxyType({}),
) -> str:
    """A table's caption: its teachers with their test top-1 in percent, the epoch, the statistics.

    `absent` are folders of teachers whose figures are left out; `added` are folders of students from other training loops.
    """
    named = ", ".join(f"`{name}`: {top1:.2f} %" for name, top1 in teachers.items())
    parts = [f"Teacher{'s' if len(teachers) > 1 else ''} {named} test top-1."] if teachers else []
    if absent:
        parts.append(f"Agreement and genetic errors left out: no {', '.join(map(str, absent))}.")
    parts.append(f"Mean +- standard deviation over n seeds, {epoch}.")
    if added:
        parts.append(f"Not trained here: {', '.join(f'`{name}` ({folder})' for name, folder in added.items())}.")
    tests = {name: int(table[difference_column(name, "p_holm")].notna().sum()) for name in baselines(table)}
    if tests:
        parts.append("Differences are paired by seed.")
    if any(tests.values()):
        numbers = " and ".join(dict.fromkeys(str(number) for number in tests.values() if number))
        parts.append(
            f"+- is half of their {100 * LEVEL:.0f} % t interval, p that of the paired t test after Holm's correction for "
            f"all tests of the column ({numbers}); bold where p < {ALPHA:g}."
        )
    elif tests:
        parts.append("No interval and no test: fewer than two seeds, or differences without spread.")
    return " ".join(parts)


def baselines(table: pd.DataFrame) -> list[str]:
    """The names of the baselines for which a table has differences."""
    return [name for name in BASELINES if difference_column(name) in table]


def wide_markdown(wide: pd.DataFrame, caption: str) -> str:
    """The table of `wide_form` above a caption, each mean with its spread."""
    shown = pd.DataFrame({"run": wide["run"].map("`{}`".format)})
    pairs = dict.fromkeys(column.rpartition(", ")[0] for column in wide.columns[1:])
    for name in pairs:
        values = zip(wide[wide_column(name)], wide[wide_column(name, "std_")], strict=True)
        shown[name] = ["" if pd.isna(mean) else _with_spread(mean, std) for mean, std in values]
    return f"{shown.to_markdown(index=False, disable_numparse=True)}\n\n{caption}\n"


def fitting(markdown: str, width: int) -> str:
    """Cut the tables of a text to the columns that fit a width in characters; the first column always stays."""
    lines = []
    for line in markdown.splitlines():
        whole = not line.startswith("|") or len(line) <= width
        lines.append(line if whole else line[: max(line.index("|", 1), line.rfind("|", 0, width)) + 1])
    return "\n".join(lines)


def _difference(row: Mapping[Hashable, Any], table: pd.DataFrame, name: str) -> str:
    """A difference with its interval and p, and the number of common seeds if either run has more seeds."""
    mean, half_width, p, seeds = (
        row[difference_column(name, of)] for of in ("points", "half_width_points", "p_holm", "seeds")
    )
    if pd.isna(seeds):  # the baseline itself
        return ""
    if seeds == 0:
        return "no common seed"
    most = max(row["n"], int(table.loc[table["run"] == BASELINES[name], "n"].iloc[0]))
    fewer = f"{seeds:.0f} of {most} seeds" if seeds < most else ""
    tested = {} if pd.isna(p) else {"half_width": half_width, "p": p}
    return difference_text(Difference(mean, int(seeds), **tested), fewer)


def _with_spread(value: float, spread: float | None) -> str:
    return f"{value:.2f}" if spread is None or pd.isna(spread) else f"{value:.2f} +- {spread:.2f}"

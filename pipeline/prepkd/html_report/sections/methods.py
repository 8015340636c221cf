"""The comparison of methods: means, paired differences with a verdict in words, every seed as a dot."""

from collections.abc import Hashable, Mapping
from math import isnan
from typing import Any

import pandas as pd

from prepkd.display.text import counted
from prepkd.distillation.compared_runs import ARROW
from prepkd.errors import InputError
from prepkd.html_report.charts.accuracy import accuracy_chart, nearby_teachers
from prepkd.html_report.parts import Cell, Column, Figure, PageSection, Table, Tone, columns, number, text
from prepkd.html_report.results import Results
from prepkd.report.comparison import BASELINES, difference_column
from prepkd.report.files import read_table
from prepkd.report.markdown import baselines
from prepkd.report.metrics import measure
from prepkd.report.run_logits import teacher_logits
from prepkd.report.significance import ALPHA

COMMAND = "dvc repro compare/dvc.yaml"
MAX_RUNS = 60  # rows of a chart; the table has all runs
OTHERS = {
    "nll_nats": ("NLL", "{:.3f}"),
    "ece_percent": ("ECE, %", "{:.2f}"),
    "agreement_percent": ("agreement, %", "{:.2f}"),
    "genetic_errors_percent": ("genetic errors, %", "{:.2f}"),
}
Row = Mapping[Hashable, Any]


def methods(results: Results) -> PageSection:
    """The comparison of methods, from its tables; raises InputError."""
    table = read_table(results.comparison / "table.csv", ("n", "top1_percent"), COMMAND)
    long = read_table(results.comparison / "long.csv", ("seed", "top1_percent"), COMMAND)
    if "pair" not in table:
        table = table.assign(pair=_joined(table))
    named = baselines(table)
    groups = {pair: table[table["pair"] == pair] for pair in table["pair"].drop_duplicates().tolist()}
    notes: list[str] = []
    parts: list[Table | Figure] = []
    for place, (pair, rows) in enumerate(groups.items()):
        try:
            teachers = _teachers(results, pair)
        except InputError as error:
            teachers = {}
            notes.append(f"The teacher's accuracy is not in the chart: {error}")
        title = pair if len(groups) > 1 else ""
        parts += [headline(rows, named, title), _figure(rows, long, title, teachers, f"accuracy-{place}")]
    if there := [f"{name} ({results.added[name]})" for name in table["run"].unique() if name in results.added]:
        notes.append(f"Students from another training loop: {', '.join(there)}.")
    if not named:
        notes.append(f"No differences: none of the runs is a baseline ({', '.join(BASELINES.values())}).")
    return PageSection("methods", "Methods compared", _lead(table, named), parts, notes)


def headline(table: pd.DataFrame, named: list[str], title: str = "") -> Table:
    """One row per run of a pair: mean and deviation, a difference and verdict per baseline, n, other metrics."""
    heads = [Column("method"), Column("test top-1, % (mean ± std)", True)]
    for name in named:
        heads += [Column(f"minus {name}, points (± 95 % CI)", True), Column(f"verdict against {name}")]
    shown = {column: how for column, how in OTHERS.items() if column in table and table[column].notna().any()}
    heads += [Column("n", True), *(Column(head, True) for head, _ in shown.values())]
    rows = []
    for row in table.to_dict("records"):
        cells = [text(row["run"]), Cell(_with(row["top1_percent"], row.get("top1_std_percent")), row["top1_percent"])]
        for name in named:
            cells += difference_cells(row, name)
        cells += [number(row["n"], "{:.0f}"), *(number(row[column], form) for column, (_, form) in shown.items())]
        rows.append(cells)
    caption = (
        "Mean ± sample standard deviation over n seeds. Differences are paired by seed, ± half of their 95 % t interval. "
        f"Better or worse: the paired t test's p, corrected by Holm for all runs, is below {ALPHA:g}."
    )
    return Table(caption, heads, rows, filtered=True, title=title)


def difference_cells(row: Row, name: str) -> list[Cell]:
    """A run's difference to a baseline with half of its t interval, and the verdict; empty for the baseline itself."""
    points, half, p, seeds = (
        float(row.get(difference_column(name, of), float("nan")))
        for of in ("points", "half_width_points", "p_holm", "seeds")
    )
    if isnan(seeds):
        return [text("baseline", "quiet"), text("", "quiet")]
    if seeds == 0:
        return [text("no common seed", "quiet"), text("not comparable", "quiet")]
    shown = f"{round(points, 2) + 0.0:+.2f}" + ("" if isnan(half) else f" ± {half:.2f}")
    return [Cell(shown, points), text(*verdict(points, p, int(seeds)))]


def verdict(points: float, p: float, seeds: int) -> tuple[str, Tone]:
    """The verdict in words on a difference in points, from its corrected p (NaN: no test).

    >>> verdict(0.5, 0.01, 5), verdict(-0.5, 0.01, 5), verdict(0.5, 0.2, 5)
    (('better', 'good'), ('worse', 'bad'), ('not shown at n = 5', 'quiet'))
    """
    if not isnan(p) and p < ALPHA:
        return ("better", "good") if points > 0 else ("worse", "bad")
    return f"not shown at n = {seeds}", "quiet"


def _lead(table: pd.DataFrame, named: list[str]) -> str:
    runs = table["run"].nunique()
    seeds = sorted({int(n) for n in table["n"]})
    pairs = table["pair"].nunique()
    each = f", for each of {pairs} pairs of teacher and student" if pairs > 1 else ""
    over = "one seed" if seeds == [1] else f"{' or '.join(map(str, seeds))} seeds"
    said = f"{counted(runs, 'run')} over {over} each{each}."
    for name in named:
        found = [difference_cells(row, name)[1].text for row in table.to_dict("records")]
        counts = {word: found.count(word) for word in ("better", "worse")}
        open_ = sum(one.startswith("not shown") for one in found)
        parts = [f"{count} {word}" for word, count in counts.items() if count]
        parts += [f"{open_} not shown to differ"] if open_ else []
        if parts:
            said += f" Against {name}: {', '.join(parts)}."
    return said


def _figure(rows: pd.DataFrame, long: pd.DataFrame, pair: str, teachers: Mapping[str, float], name: str) -> Figure:
    keys = [key for key in ("teacher", "student", "run") if key in long and key in rows]
    shown = rows.sort_values("top1_percent", ascending=False, kind="stable").head(MAX_RUNS)
    seeds = long.merge(shown[keys].drop_duplicates(), on=keys)
    dots = [
        {"run": run, "seed": f"{seed:.0f}", "top1": top1}
        for run, seed, top1 in zip(seeds["run"], seeds["seed"], seeds["top1_percent"], strict=True)
    ]
    if not dots:
        raise InputError(f"long.csv has no seed of the runs of table.csv; run `{COMMAND}`")
    means = []
    for row in shown.to_dict("records"):
        mean, std = row["top1_percent"], row.get("top1_std_percent")
        width = 0.0 if std is None or isnan(std) else std
        means.append({"run": row["run"], "mean": mean, "low": mean - width, "high": mean + width})
    caption = (
        "Each dot is a seed, the tick their mean, the bar one standard deviation to each side. "
        "The axis covers the data, not 0 to 100."
    )
    if drawn := nearby_teachers(teachers, [dot["top1"] for dot in dots]):
        caption += f" Dashed: {', '.join(f'teacher {one} ({top1:.2f} %)' for one, top1 in drawn.items())}."
    if far := {one: top1 for one, top1 in teachers.items() if one not in drawn}:
        caption += f" Outside: {', '.join(f'teacher {one} ({top1:.2f} %)' for one, top1 in far.items())}."
    if len(rows) > len(shown):
        caption += f" The {len(shown)} runs with the highest mean of {len(rows)}."
    table = Table(
        "Test top-1 of every seed",
        columns("method", "seed", "test top-1, %", numeric=("seed", "test top-1, %")),
        [[text(dot["run"]), number(float(dot["seed"]), "{:.0f}"), number(dot["top1"])] for dot in dots],
    )
    title = f"Test top-1 by method{f', {pair}' if pair else ''}"
    return Figure(name, title, caption, accuracy_chart(dots, means, teachers), table)


def _teachers(results: Results, pair: str) -> dict[str, float]:
    """Test top-1 in percent of the existing teachers of a pair's runs."""
    runs = {run.teacher: run for run in results.grid.get(pair, {}).values() if not run.absent}
    return {
        name: 100
        * measure(teacher_logits(run.settings, run.teachers, results.test.fingerprint), results.labels)["top1"]
        for name, run in runs.items()
    }


def _joined(table: pd.DataFrame) -> pd.Series:
    if {"teacher", "student"} <= set(table):
        return table["teacher"] + ARROW + table["student"]
    return pd.Series("", index=table.index)


def _with(value: float, spread: float | None) -> str:
    return f"{value:.2f}" if spread is None or isnan(spread) else f"{value:.2f} ± {spread:.2f}"

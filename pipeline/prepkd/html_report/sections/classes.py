"""Accuracy by class, the student against its teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from prepkd.html_report.charts.classes import MAX_ROWS, class_chart
from prepkd.html_report.parts import Figure, PageSection, Table, columns, number, text
from prepkd.html_report.results import Results
from prepkd.report.metrics import by_class, confusion_counts


def classes(results: Results) -> PageSection:
    """Accuracy of each class that has test samples; raises InputError."""
    labels, names, shown = results.labels, results.names, results.selected_run
    teacher = results.teacher_logits_or_none
    size = torch.bincount(labels, minlength=len(names))
    ours = torch.stack([by_class(confusion_counts(logits, labels)) for logits in shown.logits.values()]).mean(dim=0)
    theirs = None if teacher is None else by_class(confusion_counts(teacher, labels))
    rows: list[dict[str, Any]] = []
    for k in (size > 0).nonzero().flatten().tolist():
        row = {"class": names[k], "samples": int(size[k]), "student": 100 * float(ours[k])}
        if theirs is not None:
            row |= {"teacher": 100 * float(theirs[k]), "gap": 100 * float(ours[k] - theirs[k])}
        rows.append(row)
    rows.sort(key=lambda row: (row.get("gap", row["student"]), row["class"]))
    numeric = [
        "test samples",
        "student, %",
        *(["teacher, %", "student minus teacher, points"] if theirs is not None else []),
    ]
    cells = [
        [
            text(row["class"]),
            number(row["samples"], "{:,}"),
            number(row["student"]),
            *([number(row["teacher"]), number(row["gap"], "{:+.2f}")] if "gap" in row else []),
        ]
        for row in rows
    ]
    table = Table("Accuracy by class", columns("class", *numeric, numeric=numeric), cells, filtered=len(rows) > 10)
    caption = f"Student: {shown.described}. "
    if theirs is None:
        caption += "The teacher's test logits are not there."
    elif len(rows) > MAX_ROWS:
        caption += "On the line both are equal; below it the teacher is better. The largest gaps are named."
    else:
        caption += "Sorted by the gap, the teacher's largest lead first."
    figure = Figure("classes", "Accuracy by class", caption, class_chart(rows), table)
    return PageSection("classes", "Accuracy by class", _lead(rows), [figure])


def _lead(rows: Sequence[Mapping[str, Any]]) -> str:
    if "gap" not in rows[0]:
        worst = min(rows, key=lambda row: row["student"])
        return f"The student is weakest on {worst['class']} ({worst['student']:.1f} %)."
    behind, ahead = rows[0], rows[-1]
    count = sum(row["gap"] > 0 for row in rows)
    said = f"The student is ahead of its teacher on {count} of {len(rows)} classes."
    if behind["gap"] < 0:
        said += f" It is furthest behind on {behind['class']} ({behind['gap']:+.1f} points)"
        said += f", furthest ahead on {ahead['class']} ({ahead['gap']:+.1f})." if ahead["gap"] > 0 else "."
    return said

"""The comparison's grid of runs, students and teachers: tables and a picture from every run's test logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from prepkd.data.prepared.file import Split
from prepkd.report.bars import bars
from prepkd.report.comparison import compare_runs, long_form, measure_runs, wide_form
from prepkd.report.markdown import to_markdown, wide_markdown
from prepkd.report.metrics import measure
from prepkd.report.run_logits import RunFile, run_logits, teacher_logits
from prepkd.runtime.files import write_bytes

CAPTION = (
    "Teacher `{teacher}`: {top1:.2f} % test top-1. Mean +- standard deviation over n seeds, {epoch}; "
    "differences are paired by seed, mean +- standard error."
)


@dataclass(frozen=True)
class Pair:
    """A teacher (several joined by '+') and a student: the teachers' folders by name, and the runs by their text."""

    teacher: str
    student: str
    teachers: Mapping[str, Path]
    runs: Mapping[str, RunFile]


def tabulate(pairs: Sequence[Pair], test: Split, folder: Path) -> str:
    """Write the tables and the picture of the whole grid to `folder`, and return the tables as Markdown.

    Raises InputError for test logits that are missing, or made by other settings, teachers or data.
    """
    labels = torch.from_numpy(test.labels)
    early = any(run.settings.early_stop for pair in pairs for run in pair.runs.values())
    epoch = "with early stopping the best epoch on val" if early else "last epoch"
    longs, tables, texts = [], {}, []
    for pair in pairs:
        first = next(iter(pair.runs.values()))
        answers = teacher_logits(first.settings, pair.teachers, test.fingerprint)
        logits = {name: run_logits(run, pair.teachers, test.fingerprint) for name, run in pair.runs.items()}
        figures = measure_runs(logits, answers, labels)
        names = {"teacher": pair.teacher, "student": pair.student}
        longs.append(long_form(figures).assign(**names))
        table, top1 = compare_runs(figures), 100 * measure(answers, labels)["top1"]
        tables[f"{pair.teacher} -> {pair.student}"] = table.assign(**names), top1
        texts.append(to_markdown(table, CAPTION.format(teacher=pair.teacher, top1=top1, epoch=epoch)))
    long, whole = pd.concat(longs), pd.concat([table for table, _ in tables.values()])
    wide = wide_form(long)
    if len(texts) > 1:
        texts = [f"**{title}**\n\n{text}" for title, text in zip(tables, texts, strict=True)]
        texts.insert(0, wide_markdown(wide, "Test top-1, %: mean +- standard deviation over the seeds."))
    text = "\n".join(texts)
    for name, frame in (("long", long), ("wide", wide), ("table", whole)):
        write_bytes(folder / f"{name}.csv", _csv(frame))
    write_bytes(folder / "table.md", text.encode())
    bars(tables, folder / "top1.png")
    return text


def _csv(frame: pd.DataFrame) -> bytes:
    """Format a table as CSV; the columns that name a row come first."""
    first = [column for column in ("teacher", "student", "run") if column in frame]
    ordered = frame[[*first, *(column for column in frame if column not in first)]]
    return ordered.to_csv(index=False, float_format="%.6g").encode()

"""The comparison's grid of runs, students and teachers: tables and a picture from every run's test logits."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import torch

from prepkd.data.prepared.file import Split
from prepkd.display.text import csv_cell
from prepkd.distillation.compared_runs import ARROW
from prepkd.report.added import AddedStudents
from prepkd.report.bars import bars
from prepkd.report.comparison import compare_runs, long_form, measure_runs, wide_form
from prepkd.report.markdown import caption, to_markdown, wide_markdown
from prepkd.report.metrics import measure
from prepkd.report.run_logits import RunFile, run_logits, teacher_logits
from prepkd.runtime.files import write_bytes

Runs = Mapping[str, RunFile]  # by the run's text in params.yaml


def tabulate(
    pairs: Mapping[str, Runs], test: Split, folder: Path, added: Mapping[str, AddedStudents] = MappingProxyType({})
) -> str:
    """Write the tables and the picture of the whole grid to `folder`, and return the tables as Markdown.

    `pairs` are the runs by `teacher -> student`. A run whose settings name other teachers is compared with those; without a
    teacher's folder these figures are left out. `added` are students of other training loops by name, which appear in every
    pair's table, compared with its teacher. Raises InputError for test logits that are missing, or made by other settings,
    teachers or data.
    """
    labels = torch.from_numpy(test.labels)
    early = any(run.settings.early_stop for runs in pairs.values() for run in runs.values())
    epoch = "with early stopping the best epoch on val" if early else "last epoch"
    longs, tables, texts = [], {}, []
    for pair, runs in pairs.items():
        distinct = {run.teacher: run for run in runs.values()}
        absent = list(dict.fromkeys(folder for run in distinct.values() for folder in run.absent))
        answers = {
            name: teacher_logits(run.settings, run.teachers, test.fingerprint)
            for name, run in distinct.items()
            if not run.absent
        }
        logits = {text: run_logits(run, test.fingerprint) for text, run in runs.items()}
        theirs = {text: answers[run.teacher] for text, run in runs.items() if run.teacher in answers}
        teacher, _, _ = pair.rpartition(ARROW)
        own = next((run.teacher for run in runs.values() if "+".join(run.settings.teacher_names) == teacher), "")
        logits |= {name: dict(one.logits) for name, one in added.items()}
        theirs |= {name: answers[own] for name in added if own in answers}
        figures = measure_runs(logits, theirs, labels)
        teachers = {name: 100 * measure(values, labels)["top1"] for name, values in answers.items()}
        names = {text: ("+".join(run.settings.teacher_names), run.settings.student) for text, run in runs.items()}
        names |= {name: (teacher, one.student) for name, one in added.items()}
        table = _named(compare_runs(figures), names).assign(pair=pair)
        longs.append(_named(long_form(figures), names))
        tables[pair] = table, teachers
        folders = {name: one.folder for name, one in added.items()}
        texts.append(to_markdown(table, caption(table, teachers, epoch, absent, folders)))
    # A run whose settings name its teacher and student is the same run in several pairs.
    long = pd.concat(longs).drop_duplicates(["teacher", "student", "run", "seed"])
    whole = pd.concat([table for table, _ in tables.values()])
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


def _named(frame: pd.DataFrame, names: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Add each run's teachers and student as columns."""
    teachers, students = zip(*(names[text] for text in frame["run"]), strict=True)
    return frame.assign(teacher=teachers, student=students)


def _csv(frame: pd.DataFrame) -> bytes:
    """Format a table as CSV; the columns that identify a row come first, and names are escaped for spreadsheets."""
    first = [column for column in ("pair", "teacher", "student", "run") if column in frame]
    ordered = frame[[*first, *(column for column in frame if column not in first)]]
    ordered = ordered.assign(**{column: ordered[column].map(csv_cell) for column in first})
    return ordered.rename(columns=csv_cell).to_csv(index=False, float_format="%.6g").encode()

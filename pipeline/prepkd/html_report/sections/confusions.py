"""The student's confusions, and the errors that it shares with the teacher."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from prepkd.errors import InputError
from prepkd.html_report.charts.confusion import KINDS, confusion_chart, errors_chart
from prepkd.html_report.parts import Figure, PageSection, Table, columns, number, text
from prepkd.html_report.results import Results
from prepkd.report.metrics import confusion_counts
from prepkd.report.run_logits import run_logits, teacher_logits

MAX_CLASSES = 100  # of the matrix
MAX_PAIRS = 200  # rows of the table of confusions
MAX_RUNS = 60


def confusions(results: Results) -> PageSection:
    """The confusion matrix of the shown students, its largest cells, and the kinds of errors by run; raises InputError."""
    shown, names, labels = results.selected_run, results.names, results.labels
    counts = sum(confusion_counts(logits, labels) for logits in shown.logits.values())
    assert isinstance(counts, Tensor)
    size = counts.sum(dim=1)
    chosen = shown_classes(counts)
    share = counts / size.clamp_min(1).unsqueeze(1)
    part = share[chosen][:, chosen]
    cells: list[dict[str, Any]] = [
        {"actual": names[chosen[i]], "predicted": names[chosen[j]], "share": round(float(part[i, j]), 5)}
        for i, j in part.nonzero().tolist()
    ]
    most = max((cell["share"] for cell in cells if cell["actual"] != cell["predicted"]), default=0.0)
    caption = (
        f"{shown.described}. Rows are actual classes and sum to 100 %. Blue: right. Red: confused, in full colour "
        f"the most frequent confusion, {most:.1%}. Colours fade with the root of the share, so that rare ones are seen."
    )
    if len(chosen) < len(names):
        caption += f" The {len(chosen)} classes with the most errors, of {len(names)}."
    table, lead = _pairs(results, counts, names)
    ordered = [names[k] for k in chosen]
    figures = [Figure("confusion", "Confusion matrix", caption, confusion_chart(cells, ordered), table)]
    notes: list[str] = []
    try:
        figures += _kinds(results, notes)
    except InputError as error:
        notes.append(f"Genetic errors are left out: {error}")
    return PageSection("confusions", "Confusions and genetic errors", lead, figures, notes)


def shown_classes(counts: Tensor, most: int = MAX_CLASSES) -> list[int]:
    """The classes of the matrix in order: all, or the `most` with the most errors."""
    errors = counts.sum(dim=1) - counts.diagonal()
    return sorted(errors.argsort(descending=True, stable=True)[:most].tolist())


def kinds_of_errors(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, float]:
    """The percentages of the test samples, by the keys of KINDS, from logits (N, K) and labels (N,).

    The second is the share of genetic errors (Wen et al., arXiv 1911.07471).
    """
    ours, theirs = student.argmax(dim=-1), teacher.argmax(dim=-1)
    wrong, astray = ours != labels, theirs != labels
    parts = (wrong & ~astray, wrong & astray & (ours == theirs), wrong & astray & (ours != theirs))
    return {kind: 100 * part.double().mean().item() for kind, part in zip(KINDS, parts, strict=True)}


def _pairs(results: Results, counts: Tensor, names: tuple[str, ...]) -> tuple[Table, str]:
    """The largest confusions as a table, with the teacher's shares beside them, and a sentence on the largest."""
    teacher = results.teacher_logits_or_none
    size = counts.sum(dim=1).clamp_min(1)
    theirs = None if teacher is None else confusion_counts(teacher, results.labels)
    off = counts.clone().fill_diagonal_(0)
    order = off.flatten().argsort(descending=True, stable=True)[:MAX_PAIRS].tolist()
    numeric = ["samples per seed", "of the class, %", *(["teacher, %"] if theirs is not None else [])]
    seeds = len(results.selected_run.logits)
    rows = []
    for k, j in (divmod(place, len(names)) for place in order):
        if not off[k, j]:
            break
        row = [text(names[k]), text(names[j]), number(float(off[k, j]) / seeds, "{:.1f}")]
        row.append(number(100 * float(off[k, j] / size[k])))
        if theirs is not None:
            row.append(number(100 * float(theirs[k, j] / theirs[k].sum().clamp_min(1))))
        rows.append(row)
    caption = "The most frequent confusions" + (f", the first {MAX_PAIRS}" if len(rows) == MAX_PAIRS else "")
    table = Table(caption, columns("actual", "predicted", *numeric, numeric=numeric), rows, filtered=True)
    if not rows:
        return table, "The student has no error on the test set."
    first = rows[0]
    lead = f"Most often {first[0].text} is taken for {first[1].text}: {first[3].text} % of its samples"
    return table, lead + (f", {first[4].text} % by the teacher." if theirs is not None else ".")


def _kinds(results: Results, notes: list[str]) -> list[Figure]:
    """The kinds of errors by run, one figure per pair of teacher and student; raises InputError without a teacher's logits."""
    groups = _runs(results, notes)
    figures = []
    for place, (pair, runs) in enumerate(groups.items()):
        means: dict[str, Mapping[str, float]] = {}
        for name, (seeds, teacher) in runs.items():
            each = [kinds_of_errors(logits, teacher, results.labels) for logits in seeds.values()]
            means[name] = {kind: sum(one[kind] for one in each) / len(each) for kind in KINDS}
        order = sorted(means, key=lambda name: sum(means[name].values()))[:MAX_RUNS]
        rows: list[dict[str, Any]] = [
            {"run": name, "kind": kind, "percent": means[name][kind]} for name in order for kind in KINDS
        ]
        table = Table(
            "Errors by kind, % of the test samples",
            columns("method", *KINDS, numeric=KINDS),
            [[text(name), *(number(means[name][kind]) for kind in KINDS)] for name in order],
        )
        caption = (
            "Errors on the test set, mean over the seeds. A genetic error is the teacher's own: both give the same "
            "wrong class."
        )
        title = "Whose errors they are" + (f", {pair}" if len(groups) > 1 else "")
        figures.append(Figure(f"errors-{place}", title, caption, errors_chart(rows, order), table))
    return figures


def _runs(results: Results, notes: list[str]) -> dict[str, dict[str, tuple[Mapping[int, Tensor], Tensor]]]:
    """Test logits by seed, and the teacher's, by pair and run: of readable runs of the comparison, else of the shown students."""
    found: dict[str, dict[str, tuple[Mapping[int, Tensor], Tensor]]] = {}
    for pair, runs in results.grid.items():
        for name, run in runs.items():
            if not run.path.is_file() or run.absent:
                continue
            try:
                logits = run_logits(run, results.test.fingerprint)
                answers = teacher_logits(run.settings, run.teachers, results.test.fingerprint)
            except InputError as error:
                notes.append(f"{name} is not in the chart of errors: {error}")
                continue
            found.setdefault(pair, {})[name] = logits, answers
    return found or {"": {results.selected_run.run: (results.selected_run.logits, results.teacher_logits)}}

"""The head of the page: student, teacher and data, and the headline figures."""

import contextlib
from typing import Any

from prepkd.display.text import counted
from prepkd.errors import InputError
from prepkd.html_report.parts import Tile
from prepkd.html_report.results import Results
from prepkd.report.metrics import against_teacher, measure, over_seeds

SHOWN = {"top1": "Student, test top-1", "ece": "Student, calibration error", "genetic_errors": "Genetic errors"}


def tiles(results: Results) -> list[Tile]:
    """Headline figures of the students of `distill`, of their teachers, and of the store, as far as available."""
    shown: list[Tile] = []
    for part in (_students, _teachers, _store):
        with contextlib.suppress(InputError):  # the end of the page lists missing results with reasons
            shown += part(results)
    return shown


def _students(results: Results) -> list[Tile]:
    labels, teacher = results.labels, results.teacher_logits_or_none
    rows = [
        measure(logits, labels) | ({} if teacher is None else against_teacher(logits, teacher, labels))
        for logits in results.student_logits.values()
    ]
    found = over_seeds(rows)
    over = "one seed" if len(rows) == 1 else f"over {len(rows)} seeds"
    return [Tile(head, *_percent(found[name], over)) for name, head in SHOWN.items() if name in found]


def _teachers(results: Results) -> list[Tile]:
    top1 = measure(results.teacher_logits, results.labels)["top1"]
    return [Tile("Teacher, test top-1", f"{top1:.2%}", " + ".join(results.teachers))]


def _store(results: Results) -> list[Tile]:
    stores = results.opened.values()
    errors = ", ".join(f"{store.summary['teacher_error']:.2%}" for store in stores)
    views = next(iter(stores)).views
    whose = "KA can repair these" if len(stores) == 1 else "of each teacher alone"
    return [Tile("Teacher errors on training views", errors, f"{counted(views, 'view')}; {whose}")]


def title(results: Results) -> str:
    """The page's title: student and data set."""
    return f"{results.settings.student} on {results.data.stem}"


def subtitle(results: Results) -> str:
    """A sentence on the students' training: teachers, method, seeds."""
    settings = results.settings
    taught = f"taught by {' + '.join(results.teachers)}, " if settings.parsed_method.needs_teacher else ""
    seeds, most = counted(len(settings.seed_list), "seed"), "at most " if settings.early_stop else ""
    return f"{taught}method {settings.method}, {seeds} of {most}{counted(settings.epochs, 'epoch')}"


def _percent(summary: Any, over: str) -> tuple[str, str]:
    """Format a mean, and its standard deviation over the seeds."""
    spread = summary["std"]
    return f"{summary['mean']:.2%}", over if spread is None else f"± {100 * spread:.2f} {over}"

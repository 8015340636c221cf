"""The report on trained students: metrics over seeds, by seed and by class, and the files that `dvc plots show` draws."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from prepkd.data.prepared.file import describe, load_split
from prepkd.data.samples.samples import Samples
from prepkd.distillation.student_settings import Distill
from prepkd.provenance.students import TrainedOn
from prepkd.report.details import class_rows, confusions
from prepkd.report.evaluation import Evaluation
from prepkd.report.metrics import against_teacher, confusion_counts, measure, over_seeds
from prepkd.report.page import offline_page
from prepkd.report.plot_data import charts, confusion, learning_curves, seed_curves
from prepkd.report.run_logits import student_logits, teacher_logits
from prepkd.runtime.files import write_bytes
from prepkd.store import LogitStore


def report_students(
    settings: Distill,
    on: Evaluation,
    trained_on: Callable[[], TrainedOn],
    *,
    students: Mapping[int, Path],
    teachers: Mapping[str, Path],
    stores: Mapping[str, str],
    training: Path,
    plots: Path,
) -> dict[str, Any]:
    """Measure trained students on the test set, write `plots`, and return the metrics over the seeds, by seed, by class.

    `trained_on` returns what the project's students see now; `students` are folders by seed; `teachers` are folders and `stores`
    URLs by the teacher's name; `training` contains DVCLive's curves, one folder per seed. Students can be trained from data and
    stores alone: without a teacher's folder, comparisons with the teacher's test logits are left out. Raises InputError for
    files that are missing or do not belong together.
    """
    info, split = describe(on.data), load_split(on.data, "test")
    test = Samples.of(split, on.device, on.recipe)
    labels = test.labels.cpu()
    here = {name: folder for name, folder in teachers.items() if folder.exists()}
    from_store = settings.parsed_method.needs_teacher and (settings.source == "cached" or len(here) < len(teachers))
    opened = {name: LogitStore.open(url, teacher=name) for name, url in stores.items() if from_store}
    logits = student_logits(settings, students, teachers, stores, info, trained_on, test, on.device)
    figures = {seed: measure(values, labels) for seed, values in logits.items()}
    errors = [store.summary["teacher_error"] for store in opened.values()]
    teacher = {"training_view_error": errors[0]} if len(errors) == 1 else {}  # an ensemble's is not its members' mean
    of_teacher = None
    if len(here) == len(teachers):
        answers = teacher_logits(settings, teachers, split.fingerprint)
        figures = {seed: row | against_teacher(logits[seed], answers, labels) for seed, row in figures.items()}
        teacher, of_teacher = measure(answers, labels) | teacher, confusion_counts(answers, labels)
    counts = torch.stack([confusion_counts(values, labels) for values in logits.values()]).sum(dim=0)
    write_bytes(plots / "confusion.csv", confusion(counts, info.class_names))
    curves = seed_curves(training, list(students))
    write_bytes(plots / "learning_curves.csv", learning_curves(curves))
    write_bytes(plots / "seed_curves.csv", curves.to_csv(index=False).encode())
    for name, content in (charts() | {"page.html": offline_page()}).items():
        write_bytes(plots / name, content)
    return over_seeds(list(figures.values())) | {
        "teacher": teacher,
        "seeds": {str(seed): row for seed, row in figures.items()},
        "classes": class_rows(info.class_names, counts, of_teacher),
        "confusions": confusions(info.class_names, counts),
    }

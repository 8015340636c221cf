"""The report on trained students: their metrics over the seeds, and the files that `dvc plots show` draws."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from prepkd.data.prepared.file import describe, load_split
from prepkd.data.samples.samples import Samples
from prepkd.report.metrics import against_teacher, measure, over_seeds
from prepkd.report.page import offline_page
from prepkd.report.plot_data import confusion, learning_curves
from prepkd.report.run_logits import student_logits, teacher_logits
from prepkd.runtime.files import write_bytes
from prepkd.store import LogitStore
from prepkd.training.student_settings import Distill
from prepkd.views import Recipe


def report_students(
    settings: Distill,
    data: Path,
    *,
    students: Mapping[int, Path],
    teachers: Mapping[str, Path],
    stores: Mapping[str, str],
    recipe: Recipe,
    device: torch.device,
    training: Path,
    plots: Path,
) -> dict[str, Any]:
    """Measure trained students on the test set of `data`, write `plots`, and return the metrics over the seeds.

    `students` are folders by seed; `teachers` are folders and `stores` URLs by the teacher's name; `training` holds DVCLive's
    curves, one folder per seed. Raises InputError for files that are missing or do not belong together.
    """
    info, split = describe(data), load_split(data, "test")
    test = Samples.of(split, device, recipe)
    labels = test.labels.cpu()
    logits = student_logits(settings, students, teachers, info, test, device)
    answers = teacher_logits(settings, teachers, split.fingerprint)
    figures = [measure(values, labels) | against_teacher(values, answers, labels) for values in logits.values()]
    errors = [LogitStore.open(url).summary["teacher_error"] for url in stores.values()]
    everyone = torch.cat(list(logits.values()))
    write_bytes(plots / "confusion.csv", confusion(everyone, labels.repeat(len(logits)), info.class_names))
    write_bytes(plots / "learning_curves.csv", learning_curves(training, list(students)))
    write_bytes(plots / "page.html", offline_page())
    teacher = measure(answers, labels) | {"training_view_error": sum(errors) / len(errors)}
    return over_seeds(figures) | {"teacher": teacher}

"""Figures by class, and the headline figures by which experiments are compared."""

from io import StringIO

import pytest
import torch
from prepkd.report.details import class_rows, confusions, headline
from prepkd.report.metrics import by_class, confusion_counts
from prepkd.stages._summary import metric_tables
from rich.console import Console

# Three classes, the last without samples. Predictions by row: 0, 1, 1, 1, 0.
LOGITS = torch.tensor([[2.0, 1, 0], [0, 3, 1], [0, 3, 1], [0, 1, 0.5], [5, 1, 0]])
LABELS = torch.tensor([0, 0, 0, 1, 1])
NAMES = ["cat", "dog", "owl"]


def test_counts_are_by_actual_and_predicted_class() -> None:
    counts = confusion_counts(LOGITS, LABELS)
    assert counts.tolist() == [[1, 2, 0], [1, 1, 0], [0, 0, 0]]
    right = by_class(counts)
    assert right[:2].tolist() == pytest.approx([1 / 3, 1 / 2]) and right[2].isnan()


def test_a_class_without_samples_has_no_share() -> None:
    counts = confusion_counts(LOGITS, LABELS)
    assert class_rows(NAMES, counts, None) == [
        {"class": "cat", "top1": pytest.approx(1 / 3)},
        {"class": "dog", "top1": 0.5},
        {"class": "owl", "top1": None},
    ]
    perfect = torch.diag(torch.tensor([3, 2, 0]))
    assert [row["teacher_top1"] for row in class_rows(NAMES, counts, perfect)] == [1.0, 1.0, None]


def test_the_most_frequent_confusions_come_first_and_right_answers_are_none() -> None:
    assert confusions(NAMES, confusion_counts(LOGITS, LABELS)) == [
        {"actual": "cat", "predicted": "dog", "samples": 2, "share": pytest.approx(2 / 3)},
        {"actual": "dog", "predicted": "cat", "samples": 1, "share": 0.5},
    ]
    assert confusions(NAMES, torch.diag(torch.tensor([3, 2, 1]))) == []
    assert len(confusions([str(k) for k in range(20)], torch.ones(20, 20, dtype=torch.int64))) == 100


def test_the_headline_is_a_few_rounded_numbers() -> None:
    names = ("top1", "top5", "nll", "ece", "agreement", "genetic_errors")
    of_all = {name: {"mean": 0.123456, "std": 0.01} for name in names}
    teacher = {"top1": 0.98765, "top5": 1.0, "nll": 0.3, "ece": 0.01, "training_view_error": 0.02}
    shown = headline({"n": 3, **of_all, "teacher": teacher, "seeds": {"0": {}}, "classes": [], "confusions": []})
    assert shown == {
        "n": 3,
        "top1": {"mean": 0.1235, "std": 0.01},
        "genetic": 0.1235,
        "teacher": {"top1": 0.9877, "training_view_error": 0.02},  # the float 0.98765 is slightly larger
    }
    # One seed has no deviation, and without the teacher's folder there is no figure that needs its test logits.
    alone = headline({"n": 1, "top1": {"mean": 0.5, "std": None}, "teacher": {"training_view_error": 0.2}})
    assert alone == {"n": 1, "top1": {"mean": 0.5, "std": None}, "teacher": {"training_view_error": 0.2}}


@pytest.mark.parametrize(("classes", "shown"), [(2, False), (5, False), (6, True)])
def test_a_top5_that_must_be_whole_is_not_printed(classes: int, shown: bool) -> None:
    figures = {name: {"mean": 0.5, "std": None} for name in ("top1", "top5")}
    report = {"n": 1, **figures, "teacher": {"top1": 0.6, "top5": 1.0}, "classes": [{"class": "x"}] * classes}
    console = Console(file=StringIO(), width=80)
    console.print(*metric_tables(report))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "top-1" in text and ("top-5" in text) == shown

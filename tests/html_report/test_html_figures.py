"""The figures of the page against references written out here."""

import math
from pathlib import Path

import made_up
import pandas as pd
import pytest
import torch
from prepkd.errors import InputError
from prepkd.html_report.charts.accuracy import nearby_teachers
from prepkd.html_report.charts.confusion import KINDS
from prepkd.html_report.names import distinct_names
from prepkd.html_report.parts import Facts
from prepkd.html_report.sections.calibration import BINS, calibration, reliability
from prepkd.html_report.sections.classes import classes
from prepkd.html_report.sections.confusions import confusions, kinds_of_errors, shown_classes
from prepkd.html_report.sections.costs import size_of
from prepkd.html_report.sections.methods import methods, verdict
from prepkd.html_report.sections.origin import origin
from prepkd.html_report.sections.temperatures import by_epoch
from prepkd.html_report.sections.training import bands, kept_epochs, training
from prepkd.html_report.summary import subtitle
from prepkd.report.files import read_log, read_table
from prepkd.report.metrics import by_class, confusion_counts, measure
from prepkd.settings.yaml import parse_yaml
from prepkd.training.settings import EarlyStop
from torch import nn

COUNT, CLASSES = 400, 7
LABELS = torch.arange(COUNT) % CLASSES
STUDENT, TEACHER = (made_up.answers(LABELS, CLASSES, right, seed) for seed, right in enumerate((0.6, 0.7)))


def test_reliability_is_counted_bin_by_bin() -> None:
    rows = reliability(STUDENT, LABELS)
    probabilities = STUDENT.double().softmax(dim=-1)
    for row in rows:
        confidences, right = [], []
        for i in range(COUNT):
            top = max(range(CLASSES), key=lambda k: probabilities[i, k])
            confidence = float(probabilities[i, top])
            if row["low"] < confidence <= row["high"]:
                confidences.append(confidence)
                right.append(top == int(LABELS[i]))
        assert row["share"] == pytest.approx(len(confidences) / COUNT)
        assert row["confidence"] == pytest.approx(sum(confidences) / len(confidences))
        assert row["accuracy"] == pytest.approx(sum(right) / len(right))
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    error = sum(row["share"] * abs(row["accuracy"] - row["confidence"]) for row in rows)
    assert error == pytest.approx(measure(STUDENT, LABELS)["ece"], abs=1e-6)


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    (row,) = reliability(torch.tensor([[200.0, 0.0]]), torch.tensor([0]))
    assert row["high"] == 1 and row["low"] == (BINS - 1) / BINS


def test_accuracy_by_class_and_confusion() -> None:
    predicted = STUDENT.argmax(dim=-1)
    counts = confusion_counts(STUDENT, LABELS)
    for k in range(CLASSES):
        here = [i for i in range(COUNT) if LABELS[i] == k]
        assert by_class(counts)[k] == pytest.approx(sum(int(predicted[i]) == k for i in here) / len(here))
        for j in range(CLASSES):
            assert counts[k, j] == sum(int(predicted[i]) == j for i in here)
    worst = sorted(range(CLASSES), key=lambda k: (-(counts[k].sum() - counts[k, k]), k))[:3]
    assert shown_classes(counts, 3) == sorted(worst)


def test_errors_divide_into_three_kinds() -> None:
    found = kinds_of_errors(STUDENT, TEACHER, LABELS)
    expected = dict.fromkeys(KINDS, 0)
    own, genetic, different = KINDS
    for ours, theirs, label in zip(STUDENT.argmax(1), TEACHER.argmax(1), LABELS, strict=True):
        if ours != label:
            expected[own if theirs == label else genetic if theirs == ours else different] += 1
    assert found == pytest.approx({kind: 100 * count / COUNT for kind, count in expected.items()})
    assert all(count > 0 for count in expected.values())
    assert sum(found.values()) == pytest.approx(100 * (1 - measure(STUDENT, LABELS)["top1"]))


@pytest.mark.parametrize(
    ("points", "p", "said"),
    [
        (1.0, 0.049, "better"),
        (-1.0, 0.049, "worse"),
        (9.0, 0.05, "not shown at n = 3"),
        (9.0, math.nan, "not shown at n = 3"),
    ],
)
def test_a_verdict_needs_a_corrected_p_below_5_percent(points: float, p: float, said: str) -> None:
    assert verdict(points, p, 3)[0] == said


def test_the_headline_table_has_differences_and_verdicts(tmp_path: Path) -> None:
    found = methods(made_up.results(tmp_path))
    table = found.parts[0]
    heads = [column.title for column in table.columns]
    rows = {row[0].text: dict(zip(heads, (cell.text for cell in row), strict=True)) for row in table.rows}
    said = {run: row["verdict against kd"] for run, row in rows.items()}
    assert said["kd"] == "" and said["ce"] == "worse" and said["ka-ps+dtd-flsw"] == "better"
    assert said["ka-ps"] == "not shown at n = 3"
    assert rows["ka-ps"]["minus kd, points (± 95 % CI)"] == "+0.60 ± 0.50"  # as in table.md
    assert rows["kd"]["test top-1, % (mean ± std)"] == "70.10 ± 0.10"
    assert "1 better, 1 worse, 3 not shown to differ" in found.lead
    dots = found.parts[1].spec["layer"][1]["data"]["values"]
    assert len(dots) == len(made_up.RUNS) * len(made_up.SEEDS)
    scale = found.parts[1].spec["layer"][1]["encoding"]["x"]["scale"]
    assert scale["domain"][0] > 60, "the axis covers the data"


def test_a_far_teacher_does_not_squeeze_the_dots() -> None:
    assert nearby_teachers({"near": 71.0, "far": 95.0}, [69.0, 70.0]) == {"near": 71.0}


def test_bands_are_over_the_seeds_that_were_trained_so_long() -> None:
    logs = {"test": {0: pd.Series([0.5, 0.7]), 1: pd.Series([0.6])}}
    assert bands(logs, 100) == [
        {"epoch": 1, "split": "test", "mean": pytest.approx(55), "low": pytest.approx(50), "high": pytest.approx(60)},
        {"epoch": 2, "split": "test", "mean": pytest.approx(70), "low": pytest.approx(70), "high": pytest.approx(70)},
    ]


def test_curves_and_temperatures_are_read_from_the_logs(tmp_path: Path) -> None:
    made = made_up.results(tmp_path)
    top1, loss = training(made).parts
    assert len(top1.table.rows) == 2 * 12 and len(loss.table.rows) == 12
    assert [top1.table.rows[place][0].text for place in (0, -1)] == ["1", "12"], "as the terminal counts"
    assert training(made).lead == (
        "ka-ps+dtd-flsw, 3 seeds, 12 epochs; in the last one 66.83 % on test, 76.83 % on train."
    )
    (tau,) = by_epoch(made)
    assert [cell.text for cell in tau.table.rows[0]] == [
        "1", "4.010", "3.010", "3.343", "3.677", "4.010", "4.343", "4.677", "5.010"
    ]  # fmt: skip
    for path in tmp_path.glob("training/*/plots/metrics/train/tau_p*.tsv"):
        path.unlink()  # older runs have no percentiles
    (tau,) = by_epoch(made)
    assert [column.title for column in tau.table.columns] == ["epoch", "mean", "min", "max"]


def test_early_stopping_is_told_with_the_kept_epochs_figures(tmp_path: Path) -> None:
    made = made_up.results(tmp_path)
    made.settings = made.settings.model_copy(update={"early_stop": EarlyStop(patience=2), "seeds": [0, 1]})
    for seed, scores in enumerate(([0.5, 0.7, 0.7, 0.6], [0.9, 0.2, 0.3])):
        made_up.write_log(tmp_path / "training", seed, "val", "top1", scores)
        made_up.write_log(tmp_path / "training", seed, "test", "top1", [0.1 * epoch for epoch in range(len(scores))])
        made_up.write_log(tmp_path / "training", seed, "train", "top1", [1.0] * len(scores))
    assert training(made).lead == (
        "ka-ps+dtd-flsw, 2 seeds, at most 12 epochs; in the kept ones, the best on val (2, 1), "
        "5.00 % on test, 80.00 % on val, 100.00 % on train."
    )
    assert subtitle(made) == "taught by large, method ka-ps+dtd-flsw, 2 seeds of at most 12 epochs"
    made.settings = made.settings.model_copy(update={"early_stop": None, "seeds": [0], "epochs": 1})
    assert subtitle(made).endswith("method ka-ps+dtd-flsw, 1 seed of 1 epoch")


def test_the_kept_epoch_is_found_where_an_epoch_has_no_finite_logits(tmp_path: Path) -> None:
    settings = made_up.results(tmp_path).settings.model_copy(update={"early_stop": EarlyStop(patience=2)})
    assert kept_epochs(settings, {"val": {0: pd.Series([0.1, 0.5, 0.3], index=[1, 2, 3])}}) == {0: 2}


def test_settings_can_be_pasted_into_params_yaml(tmp_path: Path) -> None:
    made = made_up.results(tmp_path)
    facts = origin(made).parts[-1]
    assert isinstance(facts, Facts)
    shown = {key: lines[0] for key, lines in facts.rows}
    assert {key: parse_yaml(line, key) for key, line in shown.items()} == made.settings.used(but=frozenset())
    assert (shown["clip_grad_norm"], shown["deterministic"], shown["method"]) == ("null", "false", "ka-ps+dtd-flsw")


def test_sections_of_many_classes_are_bounded(tmp_path: Path) -> None:
    made = made_up.results(tmp_path, classes=130, per_class=4)
    matrix, kinds = confusions(made).parts
    shown = matrix.spec["encoding"]["x"]["sort"]
    assert len(shown) == 100 and "of 130" in matrix.caption
    shares = pd.DataFrame(matrix.spec["data"]["values"]).groupby("actual")["share"].sum()
    assert shares.max() == pytest.approx(1, abs=1e-3) and len(matrix.table.rows) <= 200
    assert kinds.table.rows[0][0].text == made.settings.method
    (figure,) = classes(made).parts
    assert len(figure.table.rows) == 130 and len(calibration(made).parts) == 2


def test_parameters_and_multiply_adds_are_counted() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Flatten(), nn.Linear(5 * 8 * 8, 10))
    found = size_of(model, torch.zeros(1, 3, 8, 8))
    assert found.parameters == (3 * 5 * 9 + 5) + (320 * 10 + 10)
    assert found.multiply_adds == 8 * 8 * 5 * 27 + 320 * 10


def test_names_are_printable_short_and_distinct() -> None:
    assert distinct_names(["a\nb", "a", "a", "x" * 200]) == ("a\\nb", "a (1)", "a (2)", "x" * 77 + "...")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no table"),
        ("run,n,top1_percent\n", "no row"),
        ("run,n\nkd,3\n", "no column top1_percent"),
        ("run,n,top1_percent\nkd,3,nan\n", "no table"),
        ("run,n,top1_percent\nkd,3,\n", "top1_percent is nan"),
        ("run,n,top1_percent\nkd,3,inf\n", "top1_percent is inf"),
        ("run,n,top1_percent\nkd,3,much\n", "no table"),
        ("run,n,top1_percent\nkd,3,1,2,3\nkd\n", "expected a number"),
        ("\0\xff", "no column run"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(InputError, match=r"table\.csv: ") as error:
        read_table(tmp_path / "table.csv", ("n", "top1_percent"), "prepkd compare")
    assert said in str(error.value)
    assert "prepkd compare" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "step\ttop1\n",
        "step\tloss\n0\t1\n",
        "step\ttop1\n0\tinf\n",
        "step\ttop1\n0\t1e301\n",
        "step\ttop1\n0\t1\n0\t1\n",
        "step\ttop1\nx\t1\n",
        "step\ttop1\n0.5\t1\n",
    ],
)
def test_a_damaged_log_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "top1.tsv").write_text(content)
    with pytest.raises(InputError, match=r"top1.tsv: .*prepkd distill"):
        read_log(tmp_path / "top1.tsv", "top1")

"""The comparison's table."""

import math

import pandas as pd
import pytest
import torch
from prepkd.report.comparison import compare_runs, long_form, measure_runs, wide_form
from prepkd.report.markdown import fitting, to_markdown, wide_markdown
from torch import Tensor

LABELS = torch.arange(200) % 4
CONTROL = "kd,ce_weight=0"


def answers(right: int, confidence: float = 3.0) -> Tensor:
    """Logits that are correct on the first `right` samples, and predict the next class on the rest."""
    predicted = torch.where(torch.arange(len(LABELS)) < right, LABELS, (LABELS + 1) % 4)
    return confidence * torch.nn.functional.one_hot(predicted, 4).float()


TEACHER = answers(190)
RUNS = {
    "ce": dict(enumerate([answers(150), answers(152), answers(160)])),
    "kd": dict(enumerate([answers(160), answers(160), answers(166)])),
    CONTROL: dict(enumerate([answers(170), answers(168), answers(172)])),
}


def test_rows_hold_means_spreads_and_paired_differences() -> None:
    table = compare_runs(measure_runs(RUNS, TEACHER, LABELS)).set_index("run")
    assert list(table.index) == list(RUNS)
    assert list(table["n"]) == [3, 3, 3]
    # In points of 0.5 %: ce 150, 152, 160; kd 160, 160, 166; differences -10, -8, -6.
    assert table.loc["ce", "top1"] == pytest.approx(154 / 2)
    assert table.loc["ce", "std"] == pytest.approx(math.sqrt((16 + 4 + 36) / 2) / 2, rel=1e-5)
    assert table.loc["ce", "minus kd"] == pytest.approx(-8 / 2)
    assert table.loc["ce", "se kd"] == pytest.approx(2 / math.sqrt(3) / 2, rel=1e-5)
    # ... and to the control 170, 168, 172: -20, -16, -12.
    assert table.loc["ce", "minus kd without CE"] == pytest.approx(-16 / 2)
    assert table.loc["ce", "se kd without CE"] == pytest.approx(4 / math.sqrt(3) / 2, rel=1e-5)
    assert table.loc["kd", "minus kd"] == 0
    # The teacher errs on 10 samples, on which every run errs alike; it agrees where both are right or both wrong.
    assert table["genetic_errors"].tolist() == pytest.approx([5, 5, 5])
    assert table.loc["ce", "agreement"] == pytest.approx(100 - (40 + 38 + 30) / 3 / 2)
    log_sum = math.log(math.exp(3) + 3)
    assert table.loc["ce", "nll"] == pytest.approx(log_sum - 3 * 154 / 200, rel=1e-5)
    assert table.loc["ce", "ece"] == pytest.approx(
        100 * sum(abs(math.exp(3 - log_sum) - n / 200) for n in (150, 152, 160)) / 3, rel=1e-4
    )


def lines(table: pd.DataFrame) -> list[list[str]]:
    text = to_markdown(table, "A caption.")
    assert text.endswith("\n\nA caption.\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_markdown_shows_each_figure_with_its_spread() -> None:
    head, _, *rows = lines(compare_runs(measure_runs(RUNS, TEACHER, LABELS)))
    assert head == [
        "run",
        "n",
        "test top-1, %",
        "minus kd",
        "minus kd without CE",
        "NLL",
        "ECE, %",
        "agreement, %",
        "genetic errors, %",
    ]
    assert rows[0][:5] == ["`ce`", "3", "77.00 +- 2.65", "-4.00 +- 0.58", "-8.00 +- 1.15"]
    assert rows[1][:5] == ["`kd`", "3", "81.00 +- 1.73", "", "-4.00 +- 0.58"]
    assert rows[2][:5] == [f"`{CONTROL}`", "3", "85.00 +- 1.00", "+4.00 +- 0.58", ""]


def test_a_dropped_method_leaves_the_table() -> None:
    few = {run: RUNS[run] for run in ("kd", CONTROL)}
    whole = compare_runs(measure_runs(RUNS, TEACHER, LABELS))
    pd.testing.assert_frame_equal(
        compare_runs(measure_runs(few, TEACHER, LABELS)), whole[whole["run"] != "ce"].reset_index(drop=True)
    )
    assert "`ce`" not in to_markdown(compare_runs(measure_runs(few, TEACHER, LABELS)), "")


@pytest.mark.parametrize(("gone", "column"), [("kd", "minus kd"), (CONTROL, "minus kd without CE")])
def test_a_missing_baseline_takes_its_column_along(gone: str, column: str) -> None:
    table = compare_runs(measure_runs({run: seeds for run, seeds in RUNS.items() if run != gone}, TEACHER, LABELS))
    head, *_ = lines(table)
    assert column not in head
    assert column not in table
    assert {"minus kd", "minus kd without CE"} - {column} <= set(head)


def test_one_seed_has_no_spread() -> None:
    table = compare_runs(measure_runs({run: {0: seeds[0]} for run, seeds in RUNS.items()}, TEACHER, LABELS))
    assert table["std"].isna().all()
    assert table["se kd"].isna().all()
    _, _, *rows = lines(table)
    assert rows[0][:5] == ["`ce`", "1", "75.00", "-5.00", "-10.00"]
    assert "nan" not in to_markdown(table, "").lower()
    assert "None" not in to_markdown(table, "")


def test_differences_are_paired_by_seed_not_by_place() -> None:
    runs = {"kd": RUNS["kd"], "ka-ps": {2: answers(168), 0: answers(161)}, "ka-lsr": {7: answers(170)}}
    table = compare_runs(measure_runs(runs, TEACHER, LABELS)).set_index("run")
    # Seeds 0 and 2 are in both: (161 - 160) and (168 - 166) of 200, in percent.
    assert table.loc["ka-ps", "minus kd"] == pytest.approx((0.5 + 1.0) / 2, abs=1e-4)
    assert table.loc["ka-ps", "se kd"] == pytest.approx(0.25, abs=1e-4)
    assert math.isnan(table.loc["ka-lsr", "minus kd"])
    assert "nan" not in to_markdown(table.reset_index(), "").lower()


def test_long_form_has_a_row_per_seed_and_wide_form_a_column_per_pair() -> None:
    figures = measure_runs(RUNS, TEACHER, LABELS)
    long = long_form(figures)
    assert len(long) == 9 and set(long.columns) >= {"run", "seed", "top1", "top5", "nll", "ece", "agreement"}
    for row in long.itertuples():
        right = (RUNS[row.run][row.seed].argmax(dim=-1) == LABELS).float().mean().item()
        assert row.top1 == pytest.approx(right)
    other = long_form({run: {seed: figures[run][seed] for seed in (0,)} for run in RUNS})
    both = pd.concat([long.assign(teacher="large", student="s"), other.assign(teacher="small", student="s")])
    wide = wide_form(both)
    assert list(wide.columns) == ["run", "large -> s", "large -> s std", "small -> s", "small -> s std"]
    assert list(wide["run"]) == list(RUNS)
    # In points of 0.5 %: ce 150, 152, 160.
    assert wide.loc[0, "large -> s"] == pytest.approx(77.0)
    assert wide.loc[0, "large -> s std"] == pytest.approx(math.sqrt(28) / 2, rel=1e-5)
    assert wide.loc[0, "small -> s"] == pytest.approx(75.0) and math.isnan(wide.loc[0, "small -> s std"])
    first = wide_markdown(wide, "A caption.").splitlines()[2]
    assert [cell.strip() for cell in first.strip("|").split("|")] == ["`ce`", "77.00 +- 2.65", "75.00"]


@pytest.mark.parametrize("width", [1, 60, 100, 300])
def test_a_narrow_terminal_gets_the_first_columns(width: int) -> None:
    whole = to_markdown(compare_runs(measure_runs(RUNS, TEACHER, LABELS)), "A caption.").splitlines()
    shown = fitting("\n".join(whole), width).splitlines()
    assert len(shown) == len(whole) and shown[-1] == "A caption."
    for line, complete in zip(shown[:-2], whole[:-2], strict=True):
        assert complete.startswith(line) and line.endswith("|")
        assert len(line) <= max(width, len("| `kd,ce_weight=0` |"))
        rest = complete.removeprefix(line)
        assert not rest or len(line) + rest.index("|") + 1 > width, "one more would have fitted"

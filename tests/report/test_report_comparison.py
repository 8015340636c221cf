"""The comparison's tables: paired differences, corrected p, captions, long and wide form."""

import math

import pandas as pd
import pytest
import torch
from prepkd.report.comparison import RunMetrics, compare_runs, long_form, measure_runs, wide_form
from prepkd.report.markdown import caption, fitting, to_markdown, wide_markdown
from torch import Tensor

LABELS = torch.arange(200) % 4
CONTROL = "kd,ce_weight=0"
T = 4.302653  # Student's t with two degrees of freedom, 97.5 %


def answers(right: int, confidence: float = 3.0) -> Tensor:
    """Logits that are correct on the first `right` samples, and predict the next class on the rest."""
    predicted = torch.where(torch.arange(len(LABELS)) < right, LABELS, (LABELS + 1) % 4)
    return confidence * torch.nn.functional.one_hot(predicted, 4).float()


TEACHER = answers(190)


def measured(runs: dict[str, dict[int, Tensor]]) -> RunMetrics:
    """The metrics of runs that share one teacher."""
    return measure_runs(runs, dict.fromkeys(runs, TEACHER), LABELS)


RUNS = {
    "ce": dict(enumerate([answers(150), answers(152), answers(160)])),
    "kd": dict(enumerate([answers(160), answers(160), answers(166)])),
    CONTROL: dict(enumerate([answers(170), answers(168), answers(172)])),
}


def test_rows_hold_means_spreads_and_paired_differences() -> None:
    table = compare_runs(measured(RUNS)).set_index("run")
    assert list(table.index) == list(RUNS)
    assert list(table["n"]) == [3, 3, 3]
    # In points of 0.5 %: ce 150, 152, 160; kd 160, 160, 166; differences -10, -8, -6.
    assert table.loc["ce", "top1_percent"] == pytest.approx(154 / 2)
    assert table.loc["ce", "top1_std_percent"] == pytest.approx(math.sqrt((16 + 4 + 36) / 2) / 2, rel=1e-5)
    assert table.loc["ce", "minus_kd_points"] == pytest.approx(-8 / 2)
    assert table.loc["ce", "minus_kd_half_width_points"] == pytest.approx(T * 2 / math.sqrt(3) / 2, rel=1e-5)
    # The control has 170, 168, 172; ce minus control is -20, -16, -12, kd minus control -10, -8, -6.
    assert table.loc["ce", "minus_kd_without_ce_points"] == pytest.approx(-16 / 2)
    assert table.loc["ce", "minus_kd_without_ce_half_width_points"] == pytest.approx(T * 4 / math.sqrt(3) / 2, rel=1e-5)
    assert table.loc["kd"].filter(like="minus_kd_").filter(regex="kd_[^w]").isna().all()
    # All differences have |t| = 8 / (2 / sqrt(3)); each column has two tests, so Holm doubles p.
    t = 8 / (2 / math.sqrt(3))
    p = 1 - t / math.sqrt(t**2 + 2)
    for column in ("minus_kd_p_holm", "minus_kd_without_ce_p_holm"):
        assert sorted(table[column].dropna()) == pytest.approx([2 * p, 2 * p], rel=1e-4)
    assert table["minus_kd_seeds"].dropna().tolist() == [3, 3]
    # Every run makes the teacher's 10 errors; both agree where both are right or both are wrong.
    assert table["genetic_errors_percent"].tolist() == pytest.approx([5, 5, 5])
    assert table.loc["ce", "agreement_percent"] == pytest.approx(100 - (40 + 38 + 30) / 3 / 2)
    log_sum = math.log(math.exp(3) + 3)
    assert table.loc["ce", "nll_nats"] == pytest.approx(log_sum - 3 * 154 / 200, rel=1e-5)
    assert table.loc["ce", "ece_percent"] == pytest.approx(
        100 * sum(abs(math.exp(3 - log_sum) - n / 200) for n in (150, 152, 160)) / 3, rel=1e-4
    )


def lines(table: pd.DataFrame) -> list[list[str]]:
    text = to_markdown(table, "A caption.")
    assert text.endswith("\n\nA caption.\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_markdown_shows_each_figure_with_its_spread() -> None:
    head, _, *rows = lines(compare_runs(measured(RUNS)))
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
    eight, four = "**-8.00 +- 4.97 (p 0.040)**", "**-4.00 +- 2.48 (p 0.040)**"
    assert rows[0][:5] == ["`ce`", "3", "77.00 +- 2.65", four, eight]
    assert rows[1][:5] == ["`kd`", "3", "81.00 +- 1.73", "", four]
    assert rows[2][:5] == [f"`{CONTROL}`", "3", "85.00 +- 1.00", four.replace("-4", "+4"), ""]


def test_the_best_of_many_is_corrected_for_their_number() -> None:
    """A difference that is significant in one comparison is not among eight."""
    runs = {"kd": RUNS["kd"], "ka-ps": dict(enumerate([answers(167), answers(168), answers(177)]))}
    spread = {f"kd,lr=0.{i}": dict(enumerate([answers(160 + i), answers(158), answers(167)])) for i in range(7)}
    alone, among = (compare_runs(measured(found)).set_index("run") for found in (runs, runs | spread))
    p = alone.loc["ka-ps", "minus_kd_p_holm"]
    assert p == pytest.approx(0.0187, abs=1e-4) and among.loc["ka-ps", "minus_kd_p_holm"] == pytest.approx(8 * p)
    assert "**+" in to_markdown(alone.reset_index(), "") and "**+" not in to_markdown(among.reset_index(), "")


def test_the_caption_says_what_the_figures_are() -> None:
    table = compare_runs(measured(RUNS))
    assert caption(table, {"large": 95.0}, "last epoch") == (
        "Teacher `large`: 95.00 % test top-1. Mean +- standard deviation over n seeds, last epoch. Differences are paired by "
        "seed. +- is half of their 95 % t interval, p that of the paired t test after Holm's correction for all tests of the "
        "column (2); bold where p < 0.05."
    )
    several = caption(table, {"large": 95.0, "small": 91.25}, "last epoch")
    assert several.startswith("Teachers `large`: 95.00 %, `small`: 91.25 % test top-1. Mean")
    one = compare_runs(measured({run: {0: seeds[0]} for run, seeds in RUNS.items()}))
    assert caption(one, {"large": 95.0}, "last epoch").endswith(
        "Differences are paired by seed. No interval and no test: fewer than two seeds, or differences without spread."
    )
    assert caption(table[["run", "n"]], {"large": 95.0}, "last epoch").endswith("over n seeds, last epoch.")


def test_a_dropped_method_leaves_the_table() -> None:
    few = {run: RUNS[run] for run in ("kd", CONTROL)}
    whole, table = compare_runs(measured(RUNS)), compare_runs(measured(few))
    tests = [column for column in whole if column.endswith("_p_holm")]  # corrected p depends on the number of runs
    pd.testing.assert_frame_equal(
        table.drop(columns=tests), whole[whole["run"] != "ce"].reset_index(drop=True).drop(columns=tests)
    )
    assert "`ce`" not in to_markdown(table, "")


@pytest.mark.parametrize(
    ("gone", "title", "column"),
    [("kd", "minus kd", "minus_kd_points"), (CONTROL, "minus kd without CE", "minus_kd_without_ce_points")],
)
def test_a_missing_baseline_takes_its_columns_along(gone: str, title: str, column: str) -> None:
    table = compare_runs(measured({run: seeds for run, seeds in RUNS.items() if run != gone}))
    head, *_ = lines(table)
    assert title not in head
    assert column not in table
    assert {"minus kd", "minus kd without CE"} - {title} <= set(head)


def test_one_seed_has_no_spread() -> None:
    table = compare_runs(measured({run: {0: seeds[0]} for run, seeds in RUNS.items()}))
    assert table["top1_std_percent"].isna().all()
    assert table["minus_kd_half_width_points"].isna().all() and table["minus_kd_p_holm"].isna().all()
    _, _, *rows = lines(table)
    assert rows[0][:5] == ["`ce`", "1", "75.00", "-5.00 (no interval)", "-10.00 (no interval)"]
    assert "nan" not in to_markdown(table, "").lower()
    assert "None" not in to_markdown(table, "")


def test_differences_are_paired_by_seed_not_by_place() -> None:
    runs = {"kd": RUNS["kd"], "ka-ps": {2: answers(168), 0: answers(161)}, "ka-lsr": {7: answers(170)}}
    table = compare_runs(measured(runs)).set_index("run")
    # Seeds 0 and 2 are in both: (161 - 160) and (168 - 166) of 200, in percent.
    assert table.loc["ka-ps", "minus_kd_points"] == pytest.approx((0.5 + 1.0) / 2, abs=1e-4)
    assert table.loc["ka-ps", "minus_kd_half_width_points"] == pytest.approx(12.7062 * 0.25, rel=1e-3)
    assert table.loc["ka-ps", "minus_kd_seeds"] == 2 and table.loc["ka-lsr", "minus_kd_seeds"] == 0
    assert math.isnan(table.loc["ka-lsr", "minus_kd_points"])
    text = to_markdown(table.reset_index(), "")
    assert "nan" not in text.lower()
    assert "+0.75 +- 3.18 (p 0.205, 2 of 3 seeds)" in text and "no common seed" in text


def test_fewer_common_seeds_are_marked_where_the_baseline_has_fewer() -> None:
    runs = {
        "kd": {0: answers(160), 1: answers(162)},
        "ka-ps": dict(enumerate([answers(161), answers(165), answers(160)])),
    }
    assert "2 of 3 seeds" in to_markdown(compare_runs(measured(runs)), "")
    assert "seeds" not in to_markdown(compare_runs(measured(RUNS)), "")


def test_each_runs_figures_are_against_its_own_teacher() -> None:
    runs = {"kd": {0: answers(160)}, "kd,teacher=small": {0: answers(160)}}
    teachers = {"kd": answers(190), "kd,teacher=small": answers(170)}
    for order in (runs, dict(reversed(runs.items()))):
        table = compare_runs(measure_runs(order, teachers, LABELS)).set_index("run")
        assert table.loc["kd", ["agreement_percent", "genetic_errors_percent"]].tolist() == pytest.approx([85, 5])
        own = table.loc["kd,teacher=small", ["agreement_percent", "genetic_errors_percent"]]
        assert own.tolist() == pytest.approx([95, 15])


def test_long_form_has_a_row_per_seed_and_wide_form_a_column_per_pair() -> None:
    figures = measured(RUNS)
    long = long_form(figures)
    percent = [f"{name}_percent" for name in ("top1", "top5", "ece", "agreement", "genetic_errors")]
    assert len(long) == 9 and set(long.columns) == {"run", "seed", "nll_nats", *percent}
    for row in long.itertuples():
        right = (RUNS[row.run][row.seed].argmax(dim=-1) == LABELS).float().mean().item()
        assert row.top1_percent == pytest.approx(100 * right)
    table = compare_runs(figures).set_index("run")
    for name in (*percent[:1], *percent[2:], "nll_nats"):  # both forms use the same names and units
        assert table[name].to_dict() == pytest.approx(long.groupby("run")[name].mean().to_dict())
    other = long_form({run: {seed: figures[run][seed] for seed in (0,)} for run in RUNS})
    both = pd.concat([long.assign(teacher="large", student="s"), other.assign(teacher="small", student="s")])
    wide = wide_form(both)
    columns = [f"{pair} -> s, top1_{of}percent" for pair in ("large", "small") for of in ("", "std_")]
    assert list(wide.columns) == ["run", *columns]
    assert list(wide["run"]) == list(RUNS)
    # In points of 0.5 %: ce 150, 152, 160.
    assert wide.loc[0, columns[0]] == pytest.approx(77.0)
    assert wide.loc[0, columns[1]] == pytest.approx(math.sqrt(28) / 2, rel=1e-5)
    assert wide.loc[0, columns[2]] == pytest.approx(75.0) and math.isnan(wide.loc[0, columns[3]])
    head, _, first, *_ = wide_markdown(wide, "A caption.").splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["run", "large -> s", "small -> s"]
    assert [cell.strip() for cell in first.strip("|").split("|")] == ["`ce`", "77.00 +- 2.65", "75.00"]
    lacking = wide_form(both[(both["run"] != "ce") | (both["teacher"] != "small")])
    first = wide_markdown(lacking, "A caption.").splitlines()[2]
    assert [cell.strip() for cell in first.strip("|").split("|")] == ["`ce`", "77.00 +- 2.65", ""]


@pytest.mark.parametrize("width", [1, 60, 100, 300])
def test_a_narrow_terminal_gets_the_first_columns(width: int) -> None:
    whole = to_markdown(compare_runs(measured(RUNS)), "A caption.").splitlines()
    shown = fitting("\n".join(whole), width).splitlines()
    assert len(shown) == len(whole) and shown[-1] == "A caption."
    for line, complete in zip(shown[:-2], whole[:-2], strict=True):
        assert complete.startswith(line) and line.endswith("|")
        assert len(line) <= max(width, len("| `kd,ce_weight=0` |"))
        rest = complete.removeprefix(line)
        assert not rest or len(line) + rest.index("|") + 1 > width, "one more would have fitted"

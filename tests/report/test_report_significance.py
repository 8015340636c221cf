"""Paired differences against published values; README and docs claim only differences that survive the correction."""

import doctest
import math
import random
import re
from pathlib import Path

import pytest
import torch
from commands import ROOT
from prepkd.report import markdown, significance
from prepkd.report.significance import ALPHA, Difference, corrected, difference_text, holm, paired_difference

# The p values of Benjamini and Hochberg (1995), section 4; times 15, 14, ... three are below 0.05, as in the paper.
BENJAMINI_HOCHBERG = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
BENJAMINI_HOCHBERG += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
# Cushny and Peebles' hours of sleep, the example in Student (1908): two drugs, ten patients.
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_students_sleep_data() -> None:
    """Values of R's documentation of `t.test`: t = 4.0621, df = 9, p = 0.002833, interval 0.7001142 to 2.4598858."""
    found = paired_difference(SECOND, FIRST)
    assert found.n == 10 and found.mean == pytest.approx(1.58)
    assert found.half_width is not None
    assert found.mean - found.half_width == pytest.approx(0.7001142, abs=1e-7)
    assert found.mean + found.half_width == pytest.approx(2.4598858, abs=1e-7)
    assert found.p == pytest.approx(0.002833, abs=5e-7)


@pytest.mark.parametrize(("n", "quantile"), [(2, 12.706), (3, 4.303), (4, 3.182), (5, 2.776), (10, 2.262), (31, 2.042)])
def test_the_half_width_is_the_tables_quantile_times_the_standard_error(n: int, quantile: float) -> None:
    """Half widths agree with the 97.5 % quantiles in tables of Student's t."""
    values = [float(i % 2 + i / 10) for i in range(n)]
    mean = sum(values) / n
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    assert paired_difference(values, [0.0] * n).half_width == pytest.approx(quantile * error, rel=2e-4)


def test_three_standard_errors_of_three_seeds_are_no_evidence() -> None:
    """Mean 3, standard error 1: t = 3 with two degrees of freedom, p = 1 - 3 / sqrt(11)."""
    found = paired_difference([3 - math.sqrt(3), 3.0, 3 + math.sqrt(3)], [0.0] * 3)
    assert found.p == pytest.approx(1 - 3 / math.sqrt(11), rel=1e-9) and round(found.p or 0, 3) == 0.095


def test_paired_is_not_unpaired() -> None:
    """The interval is that of the differences 1, 2, 6, although the seeds differ by tens."""
    found = paired_difference([11.0, 52.0, 96.0], [10.0, 50.0, 90.0])
    assert found.mean == 3 and found.half_width == pytest.approx(4.30265 * math.sqrt(7 / 3), rel=1e-4)
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize("values", [[90.5], [90.5, 91.5], [90.0, 91.0]], ids=["one seed", "equal", "zero"])
def test_differences_without_spread_have_no_interval_and_no_p(values: list[float]) -> None:
    """Equal differences, likely with few test images, give no p; the formula would give 0."""
    found = paired_difference(values, [90.0, 91.0][: len(values)])
    assert found == Difference(values[0] - 90, len(values))


def test_rounding_is_no_spread() -> None:
    """Differences of one correct prediction in both seeds are equal but for float32 rounding, and give no p."""
    values, baseline = ([100 * torch.tensor(k / 896).item() for k in counts] for counts in ((830, 831), (829, 830)))
    assert 0 < abs((values[0] - baseline[0]) - (values[1] - baseline[1])) < 1e-5
    assert paired_difference(values, baseline).p is None


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        # The example of the Holm-Bonferroni method in Wikipedia.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        (
            BENJAMINI_HOCHBERG,
            [0.0015, 0.0056, 0.0247, 0.114, 0.2211, 0.278, 0.278, 0.278, 0.3213, 1, 1, 1, 1, 1, 1],
        ),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm(p_values: list[float], expected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_holm_decides_as_its_step_down_procedure(seed: int) -> None:
    """Adjusted p agree with Holm's procedure: compare the i-th smallest p with alpha / (m - i), stop at the first larger."""
    drawn = random.Random(seed)
    p_values = [drawn.choice([0.1, 1.0]) * drawn.random() ** 3 for _ in range(drawn.randint(1, 12))]
    adjusted, rejected = holm(p_values), set()
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[place] * (len(p_values) - rank) >= ALPHA:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(adjusted) if p < ALPHA} == rejected
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))


def test_only_tests_count_for_the_correction() -> None:
    found = corrected({"a": Difference(1.0, 5, 0.5, 0.01), "b": Difference(2.0, 1), "c": Difference(0.1, 5, 0.9, 0.4)})
    assert [found[key].p for key in "abc"] == [0.02, None, 0.4]


@pytest.mark.parametrize("module", [significance, markdown])
def test_examples_in_docstrings(module: object) -> None:
    failed, _ = doctest.testmod(module)  # type: ignore[arg-type]
    assert failed == 0


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CELL = re.compile(r"[+-]\d+\.\d\d(?: \+- \d+\.\d\d)? \((?:p (?P<p>\d\.\d{3}|< 0\.001)|no interval)(?:, [^)]+)?\)")


def cells(text: str) -> list[str]:
    """The difference cells of a text's tables: those below a column title with `minus` or `difference`."""
    found = []
    for table in re.findall(r"^(?:\|.*\n)+", text, re.M):
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
        places = [place for place, title in enumerate(head) if re.search("minus|difference", title)]
        places = list(range(1, len(head))) if places == [0] else places
        found += [row[place] for row in rows for place in places if row[place]]
    return found


CLAIM = re.compile(
    r"\b(beats?|better|worse|outperforms?|improves?|wins?|gains?|findings?|superior|behind|ahead|survives?|counts|loses"
    r"|raises?|exceeds?|higher|more accurate)\b"
)
DENIED = re.compile(r"\b(no|not|none|neither|nor|never)\b(?! extra\b| cost\b)", re.IGNORECASE)


def sections(page: Path) -> list[str]:
    return re.split(r"^## ", page.read_text(), flags=re.M)


def is_bold(table_row: str) -> bool:
    return table_row.startswith("|") and bool(re.search(rf"\*\*{CELL.pattern}\*\*", table_row))


@pytest.mark.parametrize(
    "sentence",
    [
        "KA beats KD at no extra cost.",
        "`ka-ps` is 0.4 points ahead of `kd`.",
        "It reaches a higher accuracy.",
        "DTD raises top-1 by half a point.",
    ],
)
def test_a_claim_is_seen(sentence: str) -> None:
    assert CLAIM.search(sentence) and not DENIED.search(sentence)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_a_claim_stands_beside_a_table_whose_difference_counts_or_is_a_denial(page: str) -> None:
    """In sections with differences, claims need a bold difference, or are denials."""
    for section in sections(ROOT / page):
        rows = [line for line in section.splitlines() if line.startswith("|")]
        if not any(CELL.search(row) for row in rows):
            continue
        allowed = any(map(is_bold, rows))
        prose = " ".join(line for line in section.splitlines()[1:] if not line.startswith(("|", "    ")))
        for sentence in re.split(r"(?<=[.:;])\s", prose):
            if CLAIM.search(sentence) and not allowed:
                assert DENIED.search(sentence), f"{page}: {sentence}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_published_differences_are_bold_where_they_survive(page: Path) -> None:
    for section in sections(page):
        finished = "\nUnfinished: " not in section  # of an unfinished trial nothing counts
        for cell in cells(section):
            match = CELL.fullmatch(cell.strip("*"))
            assert match, f"{cell}: expected a difference with its interval and corrected p"
            survives = match["p"] is not None and (match["p"].startswith("<") or float(match["p"]) < ALPHA)
            assert cell.startswith("**") == (survives and finished) or match["p"] == "0.050", cell


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_published_difference_is_looked_at(page: Path) -> None:
    """No difference stands in a column that `cells` does not know by its title."""
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert len(cells(page.read_text())) == sum(len(re.findall(r"\((?:p [\d<]|no interval)", row)) for row in rows)


def test_the_pages_of_results_have_differences() -> None:
    assert {page.name for page in PAGES if cells(page.read_text())} >= {"README.md", "results.md", "views-are-data.md"}


def test_text_of_a_difference() -> None:
    assert difference_text(Difference(0.5, 3, 0.4, 0.0499)) == "**+0.50 +- 0.40 (p 0.050)**"
    assert difference_text(Difference(0.5, 2), "2 of 5 seeds") == "+0.50 (no interval, 2 of 5 seeds)"

"""README's table, copied by `make docs`, is that of the recorded demo, with today's settings and training version."""

import re

import pandas as pd
from commands import ROOT
from prepkd.project.params import Params, load_params
from prepkd.report.comparison import COLUMNS, compare_runs
from prepkd.report.markdown import to_markdown
from prepkd.training.checkpoints import TRAINING_VERSION

DEMO = ROOT / "experiments/demo"
SECTIONS = ("threads", "prepare", "augment", "augment_strong", "cache", "distill", "compare")
REMEDY = "run `bash experiments/run.sh experiments/demo` and `make docs`"


def test_the_table_is_made_of_the_seeds() -> None:
    long = pd.read_csv(DEMO / "long.csv")
    metrics = {
        run: {
            int(row["seed"]): {name: row[column] / factor for name, (column, factor) in COLUMNS.items()}
            for row in rows.to_dict("records")
        }
        for run, rows in long.groupby("run", sort=False)
    }
    table, caption = (DEMO / "table.md").read_text().split("\n\n")
    assert to_markdown(compare_runs(metrics), caption.strip()) == f"{table}\n\n{caption}"
    assert table in (ROOT / "README.md").read_text(), "run `make docs`"


def test_it_was_made_with_the_settings_and_the_training_of_today() -> None:
    recorded = re.search(r"under training version (\d+)", (DEMO / "params.yaml").read_text())
    assert recorded and int(recorded[1]) == TRAINING_VERSION, REMEDY
    ours, theirs = (load_params(folder / "params.yaml") for folder in (ROOT, DEMO))
    for section in SECTIONS:
        assert getattr(ours, section) == getattr(theirs, section), f"{section}: {REMEDY}"
    assert used_teachers(ours) == used_teachers(theirs), REMEDY


def used_teachers(params: Params) -> dict[str, object]:
    return {name: params.all_teachers[name] for several in params.compare.teachers for name in several.split("+")}


def test_pages_state_one_error_of_its_teacher() -> None:
    """The page of `inspect` and that of KA, which rounds."""
    inspected = (ROOT / "docs/how-to/inspect.md").read_text()
    rows = re.search(r"\(view, sample\) rows +\d+ of [\d,]+ \((.+?)%\)", inspected)
    every = re.search(r"samples, in every view +(\d+ of \d+)", inspected)
    assert rows and every
    explained = " ".join((ROOT / "docs/explanation/knowledge-adjustment.md").read_text().split())
    stated = re.findall(r"On the (?:demo's )?digits (?:the teacher|it) is wrong on ([\d.]+) % of the", explained)
    assert stated == [f"{float(rows[1]):.1f}"] * 2 and f"on *all* views for {every[1]}" in explained


def test_it_has_every_run_and_seed_of_the_comparison() -> None:
    params, long = load_params(ROOT / "params.yaml"), pd.read_csv(DEMO / "long.csv")
    assert list(long["run"].unique()) == params.compare.runs
    assert long.groupby("run")["seed"].apply(sorted).tolist() == [params.distill.seed_list] * len(params.compare.runs)

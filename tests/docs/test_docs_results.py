"""docs/results.md agrees with the files in experiments/."""

import subprocess
import sys

import pandas as pd
import pytest
from prepkd.project.params import load_params
from trial_scripts import EXPERIMENTS, script

TRIALS = sorted(path.parent.name for path in EXPERIMENTS.glob("*/pairs.md"))
MEASURED = sorted(path.parent.name for path in EXPERIMENTS.glob("*/long.csv"))
# Rows with their seconds: of a trial that seeds.py trained.
BY_SEED = [name for name in MEASURED if "seconds" in (EXPERIMENTS / name / "long.csv").read_text().partition("\n")[0]]


@pytest.mark.parametrize("trial", TRIALS)
def test_a_trials_pairs_are_made_of_its_runs(trial: str) -> None:
    folder = EXPERIMENTS / trial
    options = ["--mean"] if trial == "cifar100-methods" else []  # as run.sh
    command = [sys.executable, EXPERIMENTS / "pairs.py", folder / "long.csv", *options]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (folder / "pairs.md").read_text() == table


@pytest.mark.parametrize("trial", BY_SEED)
def test_the_table_of_a_trial_trained_by_seed_is_made_of_its_rows(trial: str) -> None:
    folder, seeds = EXPERIMENTS / trial, script("seeds")
    rows = pd.read_csv(folder / "long.csv", dtype={"variant": str})
    params = {name: load_params(folder / "params.yaml", own) for name, own in seeds.read_variants(folder).items()}
    made = seeds.tables(rows, params)
    assert (folder / "table.md").read_text() == made


def test_a_student_of_the_live_teacher_has_the_figures_of_the_cached_one() -> None:
    """As the page says: every column but the time, the variant, and the share of cached views that the teacher gets wrong."""
    live, cached = (pd.read_csv(EXPERIMENTS / trial / "long.csv") for trial in ("cifar100-views", "cifar100-tau2"))
    live = live[live["variant"] == "online"].set_index(["run", "seed"])
    assert len(live) == 1
    own = ["variant", "seconds", "teacher_wrong_percent"]
    theirs = cached.set_index(["run", "seed"]).loc[live.index]
    pd.testing.assert_frame_equal(*(one.drop(columns=own, errors="ignore") for one in (live, theirs)), check_exact=True)


def test_the_page_of_results_shows_them() -> None:
    page = script("page")
    text = page.PAGE.read_text()
    shown = {block[1] for block in page.BLOCK.finditer(text)}
    # README shows the demo.
    assert shown == set(MEASURED) - {"demo"} | {"cifar100-tuning", "published"}
    assert page.filled(text) == text, "docs/results.md is out of date: run `make docs`"

"""docs/results.md agrees with the files in experiments/."""

import importlib.util
import subprocess
import sys

import pytest
from commands import ROOT

TRIALS = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/pairs.md"))


@pytest.mark.parametrize("trial", TRIALS)
def test_a_trials_pairs_are_made_of_its_runs(trial: str) -> None:
    folder = ROOT / "experiments" / trial
    command = [sys.executable, ROOT / "experiments/pairs.py", folder / "long.csv"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (folder / "pairs.md").read_text() == table


def test_the_page_of_results_shows_them() -> None:
    found = importlib.util.spec_from_file_location("page", ROOT / "experiments/page.py")
    assert found and found.loader
    page = importlib.util.module_from_spec(found)
    found.loader.exec_module(page)
    text = page.PAGE.read_text()
    shown = {block[1] for block in page.BLOCK.finditer(text)}
    # README shows the demo.
    measured = {path.parent.name for path in (ROOT / "experiments").glob("*/long.csv")} - {"demo"}
    assert shown == measured | {"cifar100-tuning", "published"}
    assert page.filled(text) == text, "docs/results.md is out of date: run `make docs`"

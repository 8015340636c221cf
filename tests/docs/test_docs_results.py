"""docs/results.md shows what the files in experiments/ say."""

import subprocess
import sys

import pytest
from commands import ROOT

TRIALS = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/pairs.md"))


@pytest.mark.parametrize("trial", TRIALS)
def test_a_trials_table_is_made_of_its_runs(trial: str) -> None:
    folder = ROOT / "experiments" / trial
    command = [sys.executable, ROOT / "experiments/pairs.py", folder / "long.csv"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (folder / "pairs.md").read_text() == table
    page = (ROOT / "docs/results.md").read_text()
    assert page.split(f"<!-- {trial} -->\n")[1].split("<!-- end -->")[0].strip() == table.strip()

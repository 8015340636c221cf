"""Train a trial seed by seed: every run of params.yaml with seed 0, then with seed 1, ...; long.csv and table.md grow.

    python experiments/seeds.py FOLDER     # in FOLDER/work, by run.sh

A row of long.csv is never trained again, so a trial may go on another day and on another machine; `processor` and `seconds`
say where and how long a row was trained.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from prepkd.project.params import Params, load_params
from prepkd.report.comparison import COLUMNS, compare_runs
from prepkd.report.markdown import caption, to_markdown
from prepkd.runtime.files import write_bytes


def main(folder: Path) -> None:
    """Train what is missing, and write both files after each training."""
    params, path = load_params(Path("params.yaml"), []), folder / "long.csv"
    rows = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["run", "seed"])
    for seed in params.distill.seed_list:
        for run in params.compare.runs:
            if not ((rows["run"] == run) & (rows["seed"] == seed)).any():
                rows = pd.concat([rows, trained(run, seed)], ignore_index=True)
                write_bytes(path, rows.to_csv(index=False, float_format="%.6g").encode())
                write_bytes(folder / "table.md", table(rows, params).encode())


def trained(run: str, seed: int) -> pd.DataFrame:
    """A run with one seed: its row of `prepkd compare`."""
    started = time.monotonic()
    only = ("--set", f"distill.seeds=[{seed}]")
    subprocess.run(["prepkd", "compare", "--run", run, *only, "--replace"], check=True)
    seconds = time.monotonic() - started
    subprocess.run(["prepkd", "compare", *only, "--set", f"compare.runs=['{run}']"], check=True)
    return pd.read_csv("results/compare/long.csv").assign(seconds=round(seconds), processor=processor())


def table(rows: pd.DataFrame, params: Params) -> str:
    """The table of the seeds that are there."""
    order = [run for run in params.compare.runs if run in set(rows["run"])]
    figures: dict[str, dict[int, dict[str, Any]]] = {
        run: {
            int(row["seed"]): {name: row[column] / factor for name, (column, factor) in COLUMNS.items()}
            for row in rows[rows["run"] == run].to_dict("records")
        }
        for run in order
    }
    found = compare_runs(figures)
    return to_markdown(found, caption(found, {}, "last epoch"))


def processor() -> str:
    """The processor's name and the number of its cores here."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

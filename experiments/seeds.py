"""Train a trial seed by seed: every run of params.yaml with seed 0, then with seed 1, ...; long.csv and table.md grow.

    python experiments/seeds.py FOLDER     # in FOLDER/work, by run.sh

If the trial has variants.txt, every run is trained in every variant; a line `NAME: KEY=VALUE ...` is a variant and its
overrides of params.yaml, seeds and runs too. A row of long.csv is never trained again, so a trial can be resumed on
another day or machine. `processor` and `seconds` are the processor and the training time of a row, counted from its last
start, pauses included. `teacher_wrong_percent` is the share of cached views that KA has to repair.
"""

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from prepkd.project.params import Params, load_params
from prepkd.report.comparison import COLUMNS, compare_runs
from prepkd.report.markdown import caption, to_markdown
from prepkd.runtime.files import write_bytes

BOLD = re.compile(r"\*\*(.+?)\*\*")
WRONG = "teacher_wrong_percent"
ONLY = "params.yaml"  # the only variant of a trial without variants.txt


def main(folder: Path) -> None:
    """Train the missing rows, and write both files after each training."""
    settings, path = read_variants(folder), folder / "long.csv"
    # All are loaded before the first training: errors are reported before hours of it.
    variants = {name: load_params(Path("params.yaml"), own) for name, own in settings.items()}
    rows = (
        pd.read_csv(path, dtype={"variant": str}) if path.exists() else pd.DataFrame(columns=["variant", "run", "seed"])
    )
    for seed in sorted({seed for params in variants.values() for seed in params.distill.seed_list}):
        for variant, params in variants.items():
            for run in params.compare.runs if seed in params.distill.seed_list else ():
                if not ((rows["variant"] == variant) & (rows["run"] == run) & (rows["seed"] == seed)).any():
                    row = trained(run, seed, settings[variant]).assign(variant=variant)
                    refuse_another_teacher(rows, row)
                    rows = pd.concat([rows, row], ignore_index=True)
                    write_bytes(path, rows.to_csv(index=False, float_format="%.6g").encode())
                    write_bytes(folder / "table.md", tables(rows, variants).encode())
    write_bytes(folder / "table.md", tables(rows, variants).encode())  # of rows from two machines, merged


def read_variants(folder: Path) -> dict[str, list[str]]:
    """Return the settings of each variant by name."""
    path = folder / "variants.txt"
    if not path.exists():
        return {ONLY: []}
    named = (line.partition(":") for line in path.read_text().splitlines() if line.strip())
    return {name: settings.split() for name, _, settings in named}


def trained(run: str, seed: int, settings: Sequence[str]) -> pd.DataFrame:
    """Train a run with one seed and return its row of `prepkd compare`."""
    only = [word for one in (*settings, f"distill.seeds=[{seed}]") for word in ("--set", one)]
    params = load_params(Path("params.yaml"), settings)
    cached = params.distill.source == "cached"
    if cached and any(one.startswith("cache.") for one in settings):
        subprocess.run(["prepkd", "cache-logits", params.distill.teacher, *only], check=True)
    started = time.monotonic()
    subprocess.run(["prepkd", "compare", "--run", run, *only, "--replace"], check=True)
    seconds = time.monotonic() - started
    subprocess.run(["prepkd", "compare", *only, "--set", f"compare.runs=['{run}']"], check=True)
    row = pd.read_csv("results/compare/long.csv").assign(seconds=round(seconds), processor=processor())
    if cached:
        summary = Path(params.cache.root, f"{params.distill.teacher}.zarr/summary.json")
        row[WRONG] = 100 * json.loads(summary.read_text())["teacher_error"]
    return row


def refuse_another_teacher(rows: pd.DataFrame, row: pd.DataFrame) -> None:
    """End if a row's teacher errs on another share of the views than that of its variant's rows: it was trained again."""
    if WRONG in row and WRONG in rows:
        variant, share = row["variant"].iloc[0], row[WRONG].iloc[0]
        others = rows.loc[rows["variant"] == variant, WRONG].dropna()
        if len(others) and not math.isclose(others.iloc[0], share, rel_tol=1e-5):
            sys.exit(
                f"{variant}: the teacher is wrong on {share:.6g} % of the views, that of the rows in long.csv on "
                f"{others.iloc[0]:.6g} %; bring that teacher back, or remove the variant's rows"
            )


def tables(rows: pd.DataFrame, variants: Mapping[str, Params]) -> str:
    """Return one table per variant, over the finished seeds."""
    parts = []
    for variant, params in variants.items():
        own = rows[rows["variant"] == variant]
        if len(own):
            title = "" if variant == ONLY else f"**{variant}**{wrong(own)}\n\n"
            parts.append(title + marked(table(own, params.compare.runs), len(own), trainings(params)))
    return "\n".join(parts)


def trainings(params: Params) -> int:
    """Return the number of trainings of a variant."""
    return len(params.compare.runs) * len(params.distill.seed_list)


def marked(table: str, done: int, planned: int) -> str:
    """Return a table; of an unfinished one with a sentence that says so, and nothing bold, since looks add up."""
    if done >= planned:
        return table
    return (
        BOLD.sub(r"\1    ", table)
        + f"\nUnfinished: {done} of {planned} trainings. Nothing is bold until all are done.\n"
    )


def wrong(rows: pd.DataFrame) -> str:
    """Return a note on the share of views that KA repairs, for rows of one teacher; empty without a recorded share."""
    shares = rows.get(WRONG, pd.Series(dtype=float)).dropna()
    return f": the teacher is wrong on {shares.iloc[0]:.2f} % of the training views" if len(shares) else ""


def table(rows: pd.DataFrame, runs: Sequence[str]) -> str:
    """Return one table, as `prepkd compare` writes it."""
    order = [run for run in runs if run in set(rows["run"])]
    figures: Mapping[str, Mapping[int, dict[str, Any]]] = {
        run: {
            int(row["seed"]): {name: row[column] / factor for name, (column, factor) in COLUMNS.items()}
            for row in rows[rows["run"] == run].to_dict("records")
        }
        for run in order
    }
    found = compare_runs(figures)
    return to_markdown(found, caption(found, {}, "last epoch"))


def processor() -> str:
    """Return the processor's name and the number of available cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

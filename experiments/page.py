"""Insert the results of the trials into docs/results.md, between `<!-- NAME -->` and `<!-- end -->`: `make docs`.

A trial's block is its errors.md, if it has one, and its pairs.md, views.md or table.md; for a trial trained seed by seed also its
processor and training time. The block of a search lists its choices by method, that of published.csv published figures.
"""

import re
import sys
from pathlib import Path

import pandas as pd
from prepkd.distillation.compared_runs import run_parts
from tabulate import tabulate

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/results.md"
BLOCK = re.compile(r"<!-- (?!end )([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)


def filled(page: str) -> str:
    """Fill the page's blocks."""
    return BLOCK.sub(lambda block: f"<!-- {block[1]} -->\n\n{content(HERE / block[1])}\n\n<!-- end -->", page)


def content(trial: Path) -> str:
    """Return a trial's block."""
    if (trial / "tuning.csv").exists():
        return search(trial)
    if (trial / "published.csv").exists():
        return published(trial)
    table = next((path for name in ("pairs.md", "views.md", "table.md") if (path := trial / name).exists()), None)
    if table is None:
        sys.exit(f"{trial}: no table; run `bash experiments/run.sh experiments/{trial.name}`")
    parts = [path.read_text().strip() for path in (trial / "errors.md", table) if path.exists()]
    rows = pd.read_csv(trial / "long.csv")
    if "seconds" in rows:
        parts.append(cost(rows))
    return "\n\n".join(parts)


def published(trial: Path) -> str:
    """Return the table of published figures, as published."""
    rows = pd.read_csv(trial / "published.csv", dtype=str).fillna("")
    return tabulate(rows.to_numpy().tolist(), tuple(rows.columns), tablefmt="pipe", disable_numparse=True)


def search(trial: Path) -> str:
    """Return every method's accuracies on the validation split, best first, and the cost of the search."""
    rows = pd.read_csv(trial / "tuning.csv")
    rows["method"] = [run_parts(run)[0]["method"] for run in rows["run"]]
    shown = []
    for method, tried in rows.groupby("method", sort=False):
        ordered = tried.sort_values("val_top1_percent", ascending=False, kind="stable")
        found = [
            f"{top1:.2f} ({settings(run)})"
            for run, top1 in zip(ordered["run"], ordered["val_top1_percent"], strict=True)
        ]
        shown.append([f"`{method}`", len(found), f"**{found[0]}**", "; ".join(found[1:])])
    table = tabulate(shown, ("method", "tried", "best, val top-1, %", "others"), tablefmt="pipe", disable_numparse=True)
    return f"{table}\n\n{cost(rows)}"


def settings(run: str) -> str:
    """Return the settings of a line of the search, without the names of sections."""
    changes = (change.partition("=") for change in run_parts(run)[1])
    return ", ".join(f"`{key.rpartition('.')[2]}={value}`" for key, _, value in changes)


def cost(rows: pd.DataFrame) -> str:
    """Return one sentence: number of trainings, median minutes, processors."""
    processors = " and ".join(dict.fromkeys(rows["processor"]))
    minutes = rows["seconds"].median() / 60
    return f"Trainings so far: {len(rows)}, of {minutes:.0f} minutes each (median), beside other work; {processors}."


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))

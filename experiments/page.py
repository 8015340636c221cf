"""Put what the trials measured into docs/results.md, between `<!-- NAME -->` and `<!-- end -->`: `make docs`.

A trial's block has its pairs.md or views.md, else its table.md; of a trial by seed also where and how long it was
trained, of a search its lines by method; of published.csv a table of others' figures.
"""

import re
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
    """A trial's block."""
    if (trial / "tuning.csv").exists():
        return search(trial)
    if (trial / "published.csv").exists():
        return published(trial)
    table = next(path for name in ("pairs.md", "views.md", "table.md") if (path := trial / name).exists())
    parts = [table.read_text().strip()]
    rows = pd.read_csv(trial / "long.csv")
    if "seconds" in rows:
        parts.append(cost(rows))
    return "\n\n".join(parts)


def published(trial: Path) -> str:
    """What others have published, as they have."""
    rows = pd.read_csv(trial / "published.csv", dtype=str).fillna("")
    return tabulate(rows.to_numpy().tolist(), tuple(rows.columns), tablefmt="pipe", disable_numparse=True)


def search(trial: Path) -> str:
    """Every method's accuracies on the validation split, the best first, and what the search took."""
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
    """What a line of the search sets, without the names of sections."""
    return ", ".join(f"`{change.split('.')[-1]}`" for change in run_parts(run)[1])


def cost(rows: pd.DataFrame) -> str:
    """One sentence: trainings, minutes, processors."""
    processors = " and ".join(dict.fromkeys(rows["processor"]))
    minutes = rows["seconds"].median() / 60
    return f"Trainings so far: {len(rows)}, of {minutes:.0f} minutes each (median), beside other work; {processors}."


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))

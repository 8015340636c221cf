"""Compare each method alone with KA and DTD added: a trial's long.csv -> a Markdown table on standard output."""

import sys
from itertools import chain
from pathlib import Path

import pandas as pd
from prepkd.report.significance import Difference, corrected, difference_text, paired_difference
from tabulate import tabulate

# The terms added to a method; if one of them cannot be combined with it, the other alone.
ADDED = ("ka-ps+dtd-flsw", "ka-ps", "dtd-flsw")
HEADER = ("method", "top-1, %", "difference to `kd`", "with", "top-1, %", "difference to the method alone")


def main(path: Path) -> None:
    """Print one row per method, with both differences, each column of differences corrected for its number of tests."""
    long = pd.read_csv(path)
    top1 = {run: rows.set_index("seed")["top1_percent"].sort_index() for run, rows in long.groupby("run", sort=False)}
    alone = [run for run in top1 if not set(parts(run)) & set(parts(ADDED[0])) or "+" not in run]
    beside = {run: found for run in alone if (found := with_both(run, top1))}
    to_kd = differences({run: (top1[run], top1["kd"]) for run in alone if run != "kd"})
    to_alone = differences({run: (top1[other], top1[run]) for run, other in beside.items()})
    rows = []
    for run in alone:
        other = beside.get(run)
        added = "+".join(part for part in parts(other) if part in parts(ADDED[0])) if other else ""
        rows.append(
            [
                f"`{run}`",
                spread(top1[run]),
                difference_text(to_kd[run]) if run in to_kd else "",
                f"`{added}`" if added else "",
                spread(top1[other]) if other else "",
                difference_text(to_alone[run]) if other else "",
            ]
        )
    print(tabulate(rows, HEADER, tablefmt="pipe", disable_numparse=True))


def parts(run: str) -> list[str]:
    """The terms of a method."""
    return run.split("+")


def with_both(run: str, top1: dict[str, pd.Series]) -> str | None:
    """Return the run that adds the most of `ADDED` to a method; None without such a run, or if the method has one of them."""
    if set(parts(run)) & set(chain.from_iterable(map(parts, ADDED))):
        return None
    terms = set() if run == "kd" else set(parts(run))  # the default divergence
    for added in ADDED:
        for other in top1:
            if set(parts(other)) == terms | set(parts(added)) and other != run:
                return other
    return None


def differences(pairs: dict[str, tuple[pd.Series, pd.Series]]) -> dict[str, Difference]:
    """Return the differences paired by seed, with p values corrected for their number."""
    return corrected({run: paired_difference(one.tolist(), other.tolist()) for run, (one, other) in pairs.items()})


def spread(values: pd.Series) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{values.mean():.2f} +- {values.std():.2f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Compare each method alone with KA and DTD added: a trial's long.csv -> a Markdown table on standard output."""

import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import pandas as pd
from prepkd.report.significance import Difference, Key, corrected, difference_text, paired_difference
from tabulate import tabulate

# The terms added to a method; if one of them cannot be combined with it, the other alone.
ADDED = ("ka-ps+dtd-flsw", "ka-ps", "dtd-flsw")
HEADER = ("method", "top-1, %", "difference to `kd`", "with", "top-1, %", "difference to the method alone")


def main(path: Path) -> None:
    """Print one row per method, with both differences; all of them are corrected together."""
    long = pd.read_csv(path)
    top1 = {run: rows.set_index("seed")["top1_percent"].sort_index() for run, rows in long.groupby("run", sort=False)}
    alone = [run for run in top1 if not set(parts(run)) & set(parts(ADDED[0])) or "+" not in run]
    beside = {run: other for run in alone if (other := with_both(run, top1))}
    pairs = {(run, "kd"): (top1[run], top1["kd"]) for run in alone if run != "kd"}
    pairs |= {(run, "alone"): (top1[other], top1[run]) for run, other in beside.items()}
    found = differences(pairs)
    rows = []
    for run in alone:
        other = beside.get(run)
        added = with_overrides(other) if other else ""
        rows.append(
            [
                f"`{run}`",
                spread(top1[run]),
                difference_text(found[run, "kd"]) if run != "kd" else "",
                f"`{added}`" if added else "",
                spread(top1[other]) if other else "",
                difference_text(found[run, "alone"]) if other else "",
            ]
        )
    print(tabulate(rows, HEADER, tablefmt="pipe", disable_numparse=True))


def parts(run: str) -> list[str]:
    """The terms of a run's method."""
    return run.partition(",")[0].split("+")


def with_overrides(run: str) -> str:
    """Return the added terms of a run and its overrides."""
    terms = "+".join(part for part in parts(run) if part in parts(ADDED[0]))
    return ",".join([terms, *run.split(",")[1:]])


def with_both(run: str, top1: dict[str, pd.Series]) -> str | None:
    """Return the run that adds the most of `ADDED` to a method; None without such a run, or if the method has one of them."""
    if set(parts(run)) & set(chain.from_iterable(map(parts, ADDED))):
        return None
    terms = set(parts(run)) - {"kd"}  # the default divergence
    for added in ADDED:
        for other in top1:
            if set(parts(other)) == terms | set(parts(added)) and other != run:
                return other
    return None


def differences(pairs: Mapping[Key, tuple[pd.Series, pd.Series]]) -> dict[Key, Difference]:
    """Return the differences paired by seed, with p values corrected for their number."""
    return corrected({key: paired_difference(one.tolist(), other.tolist()) for key, (one, other) in pairs.items()})


def spread(values: pd.Series) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{values.mean():.2f} +- {values.std():.2f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

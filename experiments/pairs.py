"""Compare each method alone with KA and DTD added: a trial's long.csv -> Markdown on standard output.

    python experiments/pairs.py LONG.CSV [--mean]

A method with a `kd.tau` of its own is compared with `kd` at that temperature, if the trial has it, else with `kd`. The table is
followed by what the trial can show: the smallest gains over kd that would count, beside the largest possible.
With `--mean` also by the mean effect of KA and DTD over all methods, for a trial that was planned with this one test.
"""

import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import median

import pandas as pd
from prepkd.report.significance import ALPHA, Difference, Key, corrected, difference_text, paired_difference
from scipy.special import stdtrit
from tabulate import tabulate

# The terms added to a method; if one of them cannot be combined with it, the other alone.
ADDED = ("ka-ps+dtd-flsw", "ka-ps", "dtd-flsw")
HEADER = ("method", "top-1, %", "difference to `kd`", "with", "top-1, %", "difference to the method alone")


def main(path: Path, mean: bool = False) -> None:
    """Print one row per method, with both differences; all of them are corrected together; with `mean` their mean effect."""
    long = pd.read_csv(path)
    top1 = {run: rows.set_index("seed")["top1_percent"].sort_index() for run, rows in long.groupby("run", sort=False)}
    alone = [run for run in top1 if not set(parts(run)) & set(parts(ADDED[0])) or "+" not in run]
    beside = pairs_of(alone, top1)
    pairs = {(run, "kd"): (top1[run], top1[baseline(run, top1)]) for run in alone if run != "kd"}
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
    print(tabulate(rows, HEADER, tablefmt="pipe", disable_numparse=True), end="\n\n")
    if mean:
        print(mean_effect([top1[other] - top1[run] for run, other in beside.items()]))
    tests = sum(one.p is not None for one in found.values())
    print(what_it_can_show([found[run, "kd"] for run in alone if run != "kd"], tests, 100 - top1["kd"].mean()))


def baseline(run: str, top1: Mapping[str, pd.Series]) -> str:
    """Return `kd` at the run's own `kd.tau` if the trial has it, else `kd`."""
    same = ",".join(["kd", *(setting for setting in run.split(",")[1:] if setting.startswith("kd.tau="))])
    return same if same in top1 and same != run else "kd"


def pairs_of(alone: Sequence[str], top1: Mapping[str, pd.Series]) -> dict[str, str]:
    """Return the run with KA and DTD of each method that has one.

    A feature term that is there beside `kd` too is paired in that form, so that the logits' loss is in both runs; a method
    that is there with several settings is paired in its first.
    """
    found = {}
    for run in alone:
        first = next(other for other in alone if parts(other) == parts(run))
        if run == first and "kd+" + run not in top1 and (other := with_both(run, top1)):
            found[run] = other
    return found


def mean_effect(effects: Sequence[pd.Series]) -> str:
    """Return one sentence on the mean over the methods of their effects, top-1 with KA and DTD minus that alone by seed."""
    means = pd.concat(effects, axis=1, join="inner").mean(axis=1)
    found = paired_difference(means.tolist(), [0.0] * len(means))
    return f"With KA and DTD minus alone, mean over {len(effects)} methods: {difference_text(found)}, one test."


def parts(run: str) -> list[str]:
    """The terms of a run's method."""
    return run.partition(",")[0].split("+")


def with_overrides(run: str) -> str:
    """Return the added terms of a run and its overrides."""
    terms = "+".join(part for part in parts(run) if part in parts(ADDED[0]))
    return ",".join([terms, *run.split(",")[1:]])


def with_both(run: str, top1: Mapping[str, pd.Series]) -> str | None:
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
    """Return the differences over the seeds that both have, with p values corrected for their number."""
    both = {key: pd.concat(pair, axis=1, join="inner") for key, pair in pairs.items()}
    return corrected({key: paired_difference(*(one.iloc[:, i].tolist() for i in (0, 1))) for key, one in both.items()})


def what_it_can_show(differences: Sequence[Difference], tests: int, most: float) -> str:
    """Return one sentence on the gains over kd that would count among so many tests; `most` is the largest possible gain."""
    needed = [gain for one in differences if (gain := countable(one, tests)) is not None]
    out_of_reach = sum(gain > most for gain in needed)
    return (
        f"`kd` is {most:.2f} points below 100 %. At the spread of their seeds, no gain below {median(needed):.1f} (median) would "
        f"count as the best of {tests} comparisons; for {out_of_reach} of {len(needed)} methods none below {most:.2f} would."
    )


def countable(difference: Difference, tests: int) -> float | None:
    """Return the mean at which a difference of this spread has p < ALPHA as the smallest of so many; None without a spread."""
    if difference.half_width is None:
        return None
    alone, among = (float(stdtrit(difference.n - 1, 1 - ALPHA / 2 / number)) for number in (1, tests))
    return difference.half_width * among / alone


def spread(values: pd.Series) -> str:
    """Mean and standard deviation over the seeds; of one seed its value."""
    return f"{values.mean():.2f} +- {values.std():.2f}" if len(values) > 1 else f"{values.mean():.2f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), mean="--mean" in sys.argv[2:])

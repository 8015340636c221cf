"""The table of a comparison: mean, spread, and paired differences to the baselines."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import Tensor

from prepkd.report.metrics import against_teacher, measure, over_seeds, paired_difference

# Column -> the run that it is the difference to; "kd without CE" separates what KA does from what dropping CE does.
BASELINES = {"kd": "kd", "kd without CE": "kd,ce_weight=0"}


# A run's metrics of each seed, as fractions.
Figures = Mapping[str, Mapping[int, dict[str, float]]]


def measure_runs(runs: Mapping[str, Mapping[int, Tensor]], teacher: Tensor, labels: Tensor) -> Figures:
    """Every metric of every run and seed, from test logits (N, K) by run and seed."""
    return {
        run: {
            seed: measure(logits, labels) | against_teacher(logits, teacher, labels) for seed, logits in seeds.items()
        }
        for run, seeds in runs.items()
    }


def long_form(figures: Figures) -> pd.DataFrame:
    """A row a run and seed with every metric, as fractions."""
    return pd.DataFrame(
        [{"run": run, "seed": seed, **values} for run, seeds in figures.items() for seed, values in seeds.items()]
    )


def wide_form(long: pd.DataFrame) -> pd.DataFrame:
    """A row a run, two columns a (teacher, student): test top-1's mean and std over the seeds, percent."""
    pair = long["teacher"] + " -> " + long["student"]
    groups = (100 * long["top1"]).groupby([long["run"], pair])
    runs = long["run"].unique()
    columns = {}
    for name in pair.unique():
        for column, values in ((name, groups.mean()), (f"{name} std", groups.std())):
            columns[column] = values.xs(name, level=1).reindex(runs)
    return pd.DataFrame(columns).rename_axis("run").reset_index()


def wide_markdown(wide: pd.DataFrame, caption: str) -> str:
    """The wide form as Markdown, each mean with its spread."""
    shown = pd.DataFrame({"run": wide["run"].map("`{}`".format)})
    for name in wide.columns[1::2]:
        pairs = zip(wide[name], wide[f"{name} std"], strict=True)
        shown[name] = [_with_spread(mean, std, signed=False) for mean, std in pairs]
    return f"{shown.to_markdown(index=False, disable_numparse=True)}\n\n{caption}\n"


def fitting(markdown: str, width: int) -> str:
    """The text with its tables cut to the columns that fit into a width, in characters; the first column always stays."""
    lines = []
    for line in markdown.splitlines():
        whole = not line.startswith("|") or len(line) <= width
        lines.append(line if whole else line[: max(line.index("|", 1), line.rfind("|", 0, width)) + 1])
    return "\n".join(lines)


def compare_runs(figures: Figures) -> pd.DataFrame:
    """A row a run, accuracies in percent; differences where the baseline is a run.

    A difference is over the seeds that both runs have, and empty where there is none.
    """
    rows = []
    for run, seeds in figures.items():
        summary = over_seeds(list(seeds.values()))
        row: dict[str, Any] = {
            "run": run,
            "n": summary["n"],
            "top1": 100 * summary["top1"]["mean"],
            "std": _percent(summary["top1"]["std"]),
        }
        for name, baseline in BASELINES.items():
            if baseline in figures:
                common = sorted(seeds.keys() & figures[baseline].keys())
                ours, theirs = ([100 * figures[key][seed]["top1"] for seed in common] for key in (run, baseline))
                row[f"minus {name}"], row[f"se {name}"] = paired_difference(ours, theirs) if common else (None, None)
        for name, scale in (("nll", 1), ("ece", 100), ("agreement", 100), ("genetic_errors", 100)):
            row[name] = scale * summary[name]["mean"]
        rows.append(row)
    return pd.DataFrame(rows)


def to_markdown(table: pd.DataFrame, caption: str) -> str:
    """The table as Markdown, each figure with its spread."""
    shown = pd.DataFrame({"run": table["run"].map("`{}`".format), "n": table["n"]})
    shown["test top-1, %"] = [
        _with_spread(m, s, signed=False) for m, s in zip(table["top1"], table["std"], strict=True)
    ]
    for name, baseline in BASELINES.items():
        if f"minus {name}" in table:
            pairs = zip(table["run"], table[f"minus {name}"], table[f"se {name}"], strict=True)
            shown[f"minus {name}"] = [
                "" if run == baseline or pd.isna(d) else _with_spread(d, se, signed=True) for run, d, se in pairs
            ]
    shown["NLL"] = table["nll"].map("{:.3f}".format)
    for title, name in (("ECE, %", "ece"), ("agreement, %", "agreement"), ("genetic errors, %", "genetic_errors")):
        shown[title] = table[name].map("{:.2f}".format)
    return f"{shown.to_markdown(index=False, disable_numparse=True)}\n\n{caption}\n"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _with_spread(value: float, spread: float | None, *, signed: bool) -> str:
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return text if spread is None or pd.isna(spread) else f"{text} +- {spread:.2f}"

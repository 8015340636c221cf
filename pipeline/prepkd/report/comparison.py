"""The numbers of a comparison: mean and spread over seeds, and paired differences to the baselines."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import Tensor

from prepkd.report.metrics import against_teacher, measure, over_seeds, paired_difference

# Column -> the run that it is the difference to; "kd without CE" separates KA's effect from that of dropping CE.
BASELINES = {"kd": "kd", "kd without CE": "kd,ce_weight=0"}

# Metric name -> value, as a fraction, by run and seed.
RunMetrics = Mapping[str, Mapping[int, dict[str, float]]]


def measure_runs(runs: Mapping[str, Mapping[int, Tensor]], teacher: Tensor, labels: Tensor) -> RunMetrics:
    """Every metric of every run and seed, from test logits (N, K) by run and seed."""
    return {
        run: {
            seed: measure(logits, labels) | against_teacher(logits, teacher, labels) for seed, logits in seeds.items()
        }
        for run, seeds in runs.items()
    }


def long_form(metrics: RunMetrics) -> pd.DataFrame:
    """One row per run and seed with every metric, as fractions."""
    return pd.DataFrame(
        [{"run": run, "seed": seed, **values} for run, seeds in metrics.items() for seed, values in seeds.items()]
    )


def wide_form(long: pd.DataFrame) -> pd.DataFrame:
    """One row per run, two columns per (teacher, student): test top-1's mean and std over the seeds, in percent."""
    pair = long["teacher"] + " -> " + long["student"]
    groups = (100 * long["top1"]).groupby([long["run"], pair])
    runs = long["run"].unique()
    columns = {}
    for name in pair.unique():
        for column, values in ((name, groups.mean()), (f"{name} std", groups.std())):
            columns[column] = values.xs(name, level=1).reindex(runs)
    return pd.DataFrame(columns).rename_axis("run").reset_index()


def compare_runs(metrics: RunMetrics) -> pd.DataFrame:
    """One row per run, accuracies in percent, with the differences to each baseline that is among the runs.

    A difference is over the seeds that both runs have, and empty if there are none.
    """
    rows = []
    for run, seeds in metrics.items():
        summary = over_seeds(list(seeds.values()))
        row: dict[str, Any] = {
            "run": run,
            "n": summary["n"],
            "top1": 100 * summary["top1"]["mean"],
            "std": _percent(summary["top1"]["std"]),
        }
        for name, baseline in BASELINES.items():
            if baseline in metrics:
                common = sorted(seeds.keys() & metrics[baseline].keys())
                ours, theirs = ([100 * metrics[key][seed]["top1"] for seed in common] for key in (run, baseline))
                row[f"minus {name}"], row[f"se {name}"] = paired_difference(ours, theirs) if common else (None, None)
        for name, scale in (("nll", 1), ("ece", 100), ("agreement", 100), ("genetic_errors", 100)):
            row[name] = scale * summary[name]["mean"]
        rows.append(row)
    return pd.DataFrame(rows)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value

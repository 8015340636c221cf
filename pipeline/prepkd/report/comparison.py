"""The numbers of a comparison: mean and spread over seeds, and paired differences to the baselines."""

from collections.abc import Mapping
from math import nan
from typing import Any

import pandas as pd
from torch import Tensor

from prepkd.distillation.compared_runs import ARROW
from prepkd.report.metrics import against_teacher, measure, over_seeds
from prepkd.report.significance import corrected, paired_difference

# Name -> baseline run; "kd without CE" separates KA's effect from that of dropping CE.
BASELINES = {"kd": "kd", "kd without CE": "kd,ce_weight=0"}
# Metric -> its column, which names the unit, and the factor from a fraction (or nats) to it.
COLUMNS = {
    "top1": ("top1_percent", 100),
    "top5": ("top5_percent", 100),
    "nll": ("nll_nats", 1),
    "ece": ("ece_percent", 100),
    "agreement": ("agreement_percent", 100),
    "genetic_errors": ("genetic_errors_percent", 100),
}

# Metric name -> value, as a fraction, by run and seed.
RunMetrics = Mapping[str, Mapping[int, dict[str, float]]]


def measure_runs(
    runs: Mapping[str, Mapping[int, Tensor]], teachers: Mapping[str, Tensor], labels: Tensor
) -> RunMetrics:
    """Compute every metric per run and seed, from test logits (N, K) by run and seed, and the teacher's by run.

    Runs without a teacher's logits lack the metrics against it.
    """
    return {
        run: {
            seed: measure(logits, labels) | (against_teacher(logits, teachers[run], labels) if run in teachers else {})
            for seed, logits in seeds.items()
        }
        for run, seeds in runs.items()
    }


def long_form(metrics: RunMetrics) -> pd.DataFrame:
    """One row per run and seed with every metric; NaN for a metric that a run lacks."""
    return pd.DataFrame(
        [
            {
                "run": run,
                "seed": seed,
                **{column: factor * values.get(name, nan) for name, (column, factor) in COLUMNS.items()},
            }
            for run, seeds in metrics.items()
            for seed, values in seeds.items()
        ]
    )


def wide_form(long: pd.DataFrame) -> pd.DataFrame:
    """One row per run, two columns per (teacher, student): test top-1's mean and std over the seeds.

    NaN where a run has no student of a pair, because its settings name another teacher or student.
    """
    pair = long["teacher"] + ARROW + long["student"]
    groups = long["top1_percent"].groupby([long["run"], pair])
    runs = long["run"].unique()
    columns = {}
    for name in pair.unique():
        for column, values in ((wide_column(name), groups.mean()), (wide_column(name, "std_"), groups.std())):
            columns[column] = values.xs(name, level=1).reindex(runs)
    return pd.DataFrame(columns).rename_axis("run").reset_index()


def wide_column(pair: str, of: str = "") -> str:
    """The wide form's column of a pair's mean; with "std_", of its standard deviation."""
    return f"{pair}, top1_{of}percent"


def compare_runs(metrics: RunMetrics) -> pd.DataFrame:
    """One row per run, with the differences in top-1 to each baseline that is among the runs.

    A difference is over the seeds common to both runs; p is corrected for all runs compared with the baseline.
    """
    rows = []
    for run, seeds in metrics.items():
        summary = over_seeds(list(seeds.values()))
        row: dict[str, Any] = {"run": run, "n": summary["n"], "top1_percent": 100 * summary["top1"]["mean"]}
        spread = summary["top1"]["std"]
        row["top1_std_percent"] = None if spread is None else 100 * spread
        for name in ("nll", "ece", "agreement", "genetic_errors"):
            column, factor = COLUMNS[name]
            row[column] = factor * summary[name]["mean"] if name in summary else nan
        rows.append(row)
    table = pd.DataFrame(rows).set_index("run")
    for name, baseline in BASELINES.items():
        if baseline in metrics:
            table = table.join(_differences(metrics, name, baseline))
    return table.reset_index()


def difference_column(name: str, of: str = "points") -> str:
    """The column of the differences to a baseline: `points` (of percent), `half_width_points`, `p_holm` or `seeds`."""
    return f"minus_{name.lower().replace(' ', '_')}_{of}"


def _differences(metrics: RunMetrics, name: str, baseline: str) -> pd.DataFrame:
    """The four columns of differences to a baseline, one row per other run; NaN for missing values."""
    others = [run for run in metrics if run != baseline]
    shared = {run: sorted(metrics[run].keys() & metrics[baseline].keys()) for run in others}

    def top1(run: str, seeds: list[int]) -> list[float]:
        return [100 * metrics[run][seed]["top1"] for seed in seeds]

    found = corrected(
        {run: paired_difference(top1(run, seeds), top1(baseline, seeds)) for run, seeds in shared.items() if seeds}
    )
    columns: dict[str, dict[str, float | None]] = {
        "points": {run: one.mean for run, one in found.items()},
        "half_width_points": {run: one.half_width for run, one in found.items()},
        "p_holm": {run: one.p for run, one in found.items()},
        "seeds": {run: len(seeds) for run, seeds in shared.items()},
    }
    return pd.DataFrame(
        {difference_column(name, of): pd.Series(values, others, dtype=float) for of, values in columns.items()}
    )

"""Choose a method's settings on the validation split: one training per line of choices.txt, accuracies in tuning.csv.

    python experiments/tune.py FOLDER      # in FOLDER/work, by run.sh

A line is a run as in `compare.runs`, with the first seed of the settings. Nothing is chosen on the test set. A line of
tuning.csv is never trained again.
"""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from prepkd.distillation.compared_runs import run_parts, run_settings
from prepkd.project.params import load_params
from prepkd.runtime.files import write_bytes
from seeds import processor


def main(folder: Path) -> None:
    """Train the missing choices, and write tuning.csv after each training."""
    choices, path = (folder / "choices.txt").read_text().splitlines(), folder / "tuning.csv"
    rows = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["run"])
    distill = load_params(Path("params.yaml"), []).distill
    seed = distill.seed_list[0]
    for run in choices:
        run_settings(distill, run)  # report errors before hours of training
    for run in choices:
        if run not in set(rows["run"]):
            started = time.monotonic()
            own, changes = run_parts(run)
            changed = [*(f"{key}={value}" for key, value in own.items()), *changes, f"seeds=[{seed}]"]
            settings = [word for change in changed for word in ("--set", f"distill.{change}")]
            subprocess.run(["prepkd", "distill", "--replace", *settings], check=True)
            curve = f"results/training/seed{seed}/plots/metrics/val/top1.tsv"
            top1 = 100 * pd.read_csv(curve, sep="\t").iloc[-1]["top1"]
            row = {"run": run, "val_top1_percent": top1, "seconds": round(time.monotonic() - started)}
            rows = pd.concat([rows, pd.DataFrame([row | {"processor": processor()}])], ignore_index=True)
            write_bytes(path, rows.to_csv(index=False, float_format="%.6g").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

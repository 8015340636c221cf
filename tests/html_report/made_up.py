"""Make up results of many classes with hostile names: logits, tables and logs in the form that the commands write."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from prepkd.data.prepared.file import DataInfo, Split
from prepkd.distillation.student_settings import Distill
from prepkd.html_report.results import Results
from torch import Tensor

HOSTILE = [
    "</script><script>window.pwned = 1</script>",
    '<img src=x onerror="window.pwned = 1">',
    "\u2028line\u2029 {{ 7 * 7 }}",
    "datum.x'; alert(1) //",
    "&amp;<b>bold</b>",
    "a class " * 30,
]
RUNS = ("kd", "ce", "ka-ps", "dtd-flsw", "ka-ps+dtd-flsw", "<i>ka-lsr</i>")
SEEDS = (0, 1, 2)


def answers(labels: Tensor, classes: int, right: float, seed: int) -> Tensor:
    """Logits with about a share `right` of correct predictions; the others predict one of the next three classes."""
    generator = torch.Generator().manual_seed(seed)
    astray = torch.rand(len(labels), generator=generator) > right
    step = 1 + torch.randint(0, 3, (len(labels),), generator=generator)
    predicted = torch.where(astray, (labels + step) % classes, labels)
    logits = torch.randn(len(labels), classes, generator=generator)
    return logits.scatter_add(1, predicted.unsqueeze(1), torch.full((len(labels), 1), 7.0))


def results(folder: Path, classes: int = 100, per_class: int = 30) -> Results:
    """Results without models and store, with tables and logs in `folder`; the first classes have hostile names."""
    names = [*HOSTILE, *(f"class {k}" for k in range(len(HOSTILE), classes))][:classes]
    labels = np.repeat(np.arange(classes), per_class)
    settings = Distill.model_validate(
        {"teacher": "large", "student": "convnet4", "epochs": 12, "seeds": list(SEEDS), "method": "ka-ps+dtd-flsw"}
    )
    made = Results(
        settings,
        {},
        folder / "many.h5",
        students={seed: folder / f"seed{seed}" for seed in SEEDS},
        teachers={"large": folder},
        stores={"large": str(folder / "large.zarr")},
        trained_on=lambda: pytest.fail("its students are made up"),
        recipe=(),
        device=torch.device("cpu"),
        training=folder / "training",
        comparison=folder / "compare",
    )
    (folder / "seed0").mkdir()
    test = Split(np.zeros((len(labels), 4, 4, 1), np.uint8), labels, "f" * 64)
    truth = torch.from_numpy(labels)
    # Set the cached properties, which would read files.
    vars(made).update(
        info=DataInfo("many", tuple(names), (4, 4, 1), {"test": len(labels)}, "e" * 64, {"test": "f" * 64}),
        test=test,
        labels=truth,
        student_logits={seed: answers(truth, classes, 0.7, seed) for seed in SEEDS},
        teacher_logits=answers(truth, classes, 0.78, 99),
    )
    tables(folder / "compare", RUNS)
    logs(folder / "training")
    return made


def tables(folder: Path, runs: Sequence[str]) -> None:
    """Write the comparison's tables; the second run is significantly worse than kd, the last but one better."""
    folder.mkdir(parents=True)
    rows, long = [], []
    for place, run in enumerate(runs):
        top1 = [70 + 0.3 * place + 0.1 * seed for seed in SEEDS]
        row = {"pair": "large -> convnet4", "teacher": "large", "student": "convnet4", "run": run, "n": len(SEEDS)}
        row |= {"top1_percent": np.mean(top1), "top1_std_percent": np.std(top1, ddof=1), "nll_nats": 1.2}
        row |= {"ece_percent": 3.0, "agreement_percent": 80.0, "genetic_errors_percent": 8.0}
        if run != "kd":
            p = {"ce": 0.01, "ka-ps+dtd-flsw": 0.002}.get(run, 0.4)
            points = -1.0 if run == "ce" else 0.3 * place
            row |= {"minus_kd_points": points, "minus_kd_half_width_points": 0.5, "minus_kd_p_holm": p}
            row |= {"minus_kd_seeds": len(SEEDS)}
        rows.append(row)
        long += [
            {"teacher": "large", "student": "convnet4", "run": run, "seed": seed, "top1_percent": value}
            for seed, value in zip(SEEDS, top1, strict=True)
        ]
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    pd.DataFrame(long).to_csv(folder / "long.csv", index=False)


def logs(folder: Path, epochs: int = 12) -> None:
    """Write DVCLive's logs of a method with dynamic temperatures."""
    for seed in SEEDS:
        figures = {
            ("test", "top1"): lambda e, s: 0.7 - 0.5 / (e + 1) + 0.01 * s,
            ("train", "top1"): lambda e, s: 0.8 - 0.5 / (e + 1) + 0.01 * s,
            ("train", "loss"): lambda e, s: 3 / (e + 1) + 0.1 * s,
            ("train", "tau"): lambda e, s: 4.0 + 0.01 * s,
        }
        for place, name in enumerate(("min", "p5", "p25", "p50", "p75", "p95", "max")):
            figures["train", f"tau_{name}"] = lambda e, s, at=place: 3.0 + at / 3 + 0.01 * s + 0.01 * e
        for (group, name), of in figures.items():
            write_log(folder, seed, group, name, [of(epoch, seed) for epoch in range(epochs)])


def write_log(folder: Path, seed: int, group: str, name: str, values: Sequence[float]) -> None:
    """Write one of DVCLive's logs: a value per epoch."""
    path = folder / f"seed{seed}" / "plots" / "metrics" / group / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch}\t{value}" for epoch, value in enumerate(values)]
    path.write_text("\n".join([f"step\t{name}", *rows]) + "\n")

"""The test logits of one run of the comparison: written by the training of its students, read by the report."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prepkd.data.prepared.file import Split
from prepkd.data.samples.samples import Samples
from prepkd.distillation.student_settings import Distill
from prepkd.training.context import Trained
from prepkd.training.evaluation import predict
from prepkd.training.predictions import TestLogits, finite, write_results
from prepkd.views import Recipe


def run_results(run: str, trained: Iterable[Trained], test: Split, recipe: Recipe) -> TestLogits:
    """Return the test logits of a run's students, on the CPU, and their origin; `recipe` says how held-out images are shown.

    Raises InputError for logits that are not finite.
    """
    logits = {}
    made_from: dict[str, Any] = {"run": run, "test_fingerprint": test.fingerprint}
    for seed, model, _, card in trained:
        device = next(model.parameters()).device
        shown = Samples.of(test, device, recipe)
        logits[seed] = finite(predict(model, shown).cpu(), f"run {run!r}, seed {seed}", "lower lr")
        made_from |= {key: card[key] for key in ("training", "training_version")}
        made_from |= {"student": card["model"], "teacher": card["inputs"]["teacher"]}
        made_from |= {key: card["inputs"][key] for key in ("split_fingerprint", "plan_fingerprint")}
        if "given_weights" in card["inputs"]:
            made_from["given_weights"] = card["inputs"]["given_weights"]
    return TestLogits(logits, made_from)


def write_seeds(path: Path, settings: Distill, found: Mapping[int, tuple[NDArray[np.float32], dict[str, Any]]]) -> None:
    """Write a run whose seeds were trained one by one; each seed has its logits (N, K) and made_from."""
    logits = {seed: torch.tensor(found[seed][0]) for seed in settings.seed_list}
    _, made_from = found[settings.seed_list[-1]]
    write_results(path, logits, made_from | {"training": settings.model_dump(mode="json")})

"""A trained teacher's folder: history, test logits, checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from prepkd.data.samples.dataset import Dataset
from prepkd.models import save_checkpoint
from prepkd.models.agreement import agreement
from prepkd.models.checkpoint import JSON, weights_fingerprint
from prepkd.models.logit_checks import check_logits
from prepkd.models.weight_claims import WeightClaims
from prepkd.runtime.files import write_bytes
from prepkd.training.context import Trained
from prepkd.training.evaluation import predict, top1
from prepkd.training.plausibility import training_agreement, warnings
from prepkd.training.predictions import finite, write_results


def write_teacher(
    folder: Path,
    name: str,
    trained: Trained,
    dataset: Dataset,
    *,
    claims: WeightClaims | None = None,
    say: Callable[[str], None],
) -> dict[str, JSON]:
    """Evaluate a teacher on the test set, write its folder, and return its card with its name and test top-1.

    `claims` are those of a file of given weights; `say` gets one line per reason to doubt the teacher. Raises InputError for
    test logits that are not finite, or that are probabilities.
    """
    test, (_, model, history, card) = dataset.held_out["test"], trained
    remedy = "look at its weights, its preprocessing and its lr"
    logits = finite(predict(model, test), f"teacher {name!r}", remedy)
    if doubt := check_logits(logits, f"teacher {name!r}"):
        say(f"warning: {doubt}")
    for line in warnings(
        f"teacher {name!r}",
        bool(history),
        training_agreement(model, dataset),
        agreement(logits, test.labels),
        claims or WeightClaims(),
        model,
    ):
        say(line)
    full: dict[str, JSON] = {**card, "name": name, "test_top1": top1(logits, test.labels)}
    # Without the timing column: the same training gives the same folder, so no later stage is out of date.
    table = pd.DataFrame(history).drop(columns="samples_per_second", errors="ignore")
    write_bytes(folder / "history.csv", table.to_csv(index=False).encode())
    made_from = {"weights_fingerprint": weights_fingerprint(model), "test_fingerprint": test.fingerprint}
    write_results(folder / "test_logits.safetensors", {0: logits}, made_from)
    save_checkpoint(folder, model, full)
    return full

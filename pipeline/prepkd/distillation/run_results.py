"""The test logits of one run of the comparison: written by the training of its students, read by the report."""

from collections.abc import Iterable
from pathlib import Path

from prepkd.data.prepared.file import Split
from prepkd.data.samples.samples import Samples
from prepkd.training.context import Trained
from prepkd.training.evaluation import predict
from prepkd.training.predictions import write_results
from prepkd.views import Recipe


def write_run(path: Path, run: str, trained: Iterable[Trained], test: Split, recipe: Recipe) -> int:
    """Write the test logits of a run's students to `path`, with what made them; returns the number of seeds.

    Held-out data are shown as `recipe` has them.
    """
    logits = {}
    made_from: dict[str, object] = {"run": run, "test_fingerprint": test.fingerprint}
    for seed, model, _, card in trained:
        device = next(model.parameters()).device
        logits[seed] = predict(model, Samples.of(test, device, recipe))
        made_from |= {key: card[key] for key in ("training", "training_version")}
        made_from |= {"student": card["model"], "teacher": card["inputs"]["teacher"]}
        if "given_weights" in card["inputs"]:
            made_from["given_weights"] = card["inputs"]["given_weights"]
    write_results(path, logits, made_from)
    return len(logits)

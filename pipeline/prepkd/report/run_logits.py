"""Test logits that a report is made from; refused if other settings, another teacher or other data made them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prepkd.data.prepared.file import DataInfo
from prepkd.data.samples.samples import Samples
from prepkd.errors import refuse_differences
from prepkd.models import load_checkpoint
from prepkd.models.checkpoint import load_card
from prepkd.teacher.ensemble import combine
from prepkd.training.checkpoints import TRAINING_VERSION
from prepkd.training.evaluation import predict
from prepkd.training.predictions import read_results
from prepkd.training.student_settings import Distill
from prepkd.verification.provenance import check_started_from, check_taught_by, check_trained_by

NO_RESULTS = frozenset({"checkpoint_every", "resident_gib", "source"})  # settings of `distill` that change no result


@dataclass(frozen=True)
class RunFile:
    """A run of the comparison: its settings, the file of its test logits, and the command that writes the file."""

    settings: Distill
    path: Path
    command: str


def student_logits(
    settings: Distill,
    students: Mapping[int, Path],
    teachers: Mapping[str, Path],
    info: DataInfo,
    test: Samples,
    device: torch.device,
) -> dict[int, Tensor]:
    """Run trained students on the test set: logits (N, K) by seed, on the CPU.

    `students` are their folders by seed, `teachers` those of the teachers by name. Raises InputError for a student that is
    missing, or that was trained with other settings, on other data or by another teacher.
    """
    logits, remedy = {}, "run `prepkd distill`"
    for seed, folder in students.items():
        model, card = load_checkpoint(folder, device=device, hint=remedy)
        check_version(card, folder, remedy)
        check_trained_by(card["training"], settings, folder, remedy, but=NO_RESULTS | settings.unused | {"seeds"})
        made_from = card["inputs"]
        refuse_differences(
            {"inputs.dataset_fingerprint": (made_from["dataset_fingerprint"], info.fingerprint)}, folder, remedy
        )
        check_started_from(made_from, settings.weights, folder, remedy)
        check_taught_by(made_from["teacher"], taught_by(settings, teachers), folder, remedy)
        logits[seed] = predict(model, test).cpu()
    return logits


def run_logits(run: RunFile, teachers: Mapping[str, Path], test_fingerprint: str) -> dict[int, Tensor]:
    """Read the test logits (N, K) of one run of the comparison by seed.

    Raises InputError for a file that is missing, or made by other settings, from other data or by another teacher.
    """
    remedy = f"run `{run.command}`"
    results = read_results(run.path, remedy)
    check_version(results.made_from, run.path, remedy)
    refuse_differences(
        {"test_fingerprint": (results.made_from["test_fingerprint"], test_fingerprint)}, run.path, remedy
    )
    check_trained_by(
        results.made_from["training"], run.settings, run.path, remedy, but=NO_RESULTS | run.settings.unused
    )
    check_started_from(results.made_from, run.settings.weights, run.path, remedy)
    check_taught_by(results.made_from["teacher"], taught_by(run.settings, teachers), run.path, remedy)
    return results.logits


def teacher_logits(settings: Distill, teachers: Mapping[str, Path], test_fingerprint: str) -> Tensor:
    """Read the test logits (N, K) of the teachers, combined as `settings.ensemble` says; `teachers` are folders by name.

    Raises InputError for a file that is missing, or made by other weights or from other data.
    """
    answers = []
    for name, folder in teachers.items():
        path, remedy = folder / "test_logits.safetensors", f"run `prepkd train-teacher {name}`"
        results = read_results(path, remedy)
        wanted = {
            "weights_fingerprint": load_card(folder)["weights_fingerprint"],
            "test_fingerprint": test_fingerprint,
        }
        refuse_differences({key: (results.made_from.get(key), value) for key, value in wanted.items()}, path, remedy)
        answers.append(results.logits[0])
    if len(answers) == 1:
        return answers[0]
    named = [
        {"logits": logits - logits.amax(dim=-1, keepdim=True), "row_max": logits.amax(dim=-1)} for logits in answers
    ]
    found = combine(named, settings.ensemble.combine, settings.teacher_weights, tau=settings.teacher_tau)
    return found["logits"] + found["row_max"].unsqueeze(-1)


def check_version(made_from: Mapping[str, Any], where: object, remedy: str) -> None:
    """Refuse what another version of training made: equal settings meant other steps, views or weights. Raises InputError."""
    found = made_from.get("training_version")
    refuse_differences({"training_version": (found, TRAINING_VERSION)}, where, f"{remedy} again")


def taught_by(settings: Distill, teachers: Mapping[str, Path]) -> Mapping[str, Path]:
    """Return the teachers whose answers the method uses: none for `ce`."""
    return teachers if settings.parsed.teacher else {}

"""Test logits for reports; refused if they were made with other settings, another teacher or other data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from prepkd.data.prepared.file import DataInfo
from prepkd.data.samples.samples import Samples
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError, refuse_differences
from prepkd.models import load_checkpoint
from prepkd.models.checkpoint import load_card
from prepkd.provenance.students import (
    TrainedOn,
    check_started_from,
    check_stores,
    check_taught_by,
    check_trained_on,
    check_version,
)
from prepkd.provenance.teacher_files import command_by_card
from prepkd.settings.sameness import check_trained_by
from prepkd.store import LogitStore
from prepkd.store.encodings import add_maximum
from prepkd.teacher.ensemble import combine
from prepkd.training.evaluation import predict
from prepkd.training.finished import finished_card
from prepkd.training.predictions import finite, read_results


@dataclass(frozen=True)
class RunFile:
    """A run of the comparison: settings, teachers' folders and stores by name, the file, and the command that writes it.

    `trained_on` returns what the project's students see now.
    """

    settings: Distill
    teachers: Mapping[str, Path]
    stores: Mapping[str, str]
    path: Path
    command: str
    trained_on: Callable[[], TrainedOn]

    @property
    def absent(self) -> list[Path]:
        """The teachers' folders that do not exist: students can be trained from stores alone."""
        return [folder for folder in self.teachers.values() if not folder.exists()]

    @property
    def teacher(self) -> str:
        """The teachers with which the run's students are compared; for several, also how they are combined."""
        names, ensemble = self.settings.teacher_names, self.settings.ensemble
        if len(names) == 1:
            return names[0]
        how = (
            f"probabilities at tau {self.settings.teacher_tau:g}"
            if ensemble.combine == "probabilities"
            else ensemble.combine
        )
        weights = f", weights {ensemble.weights}" if ensemble.weights else ""
        return f"{'+'.join(names)} ({how}{weights})"


def student_logits(
    settings: Distill,
    students: Mapping[int, Path],
    teachers: Mapping[str, Path],
    stores: Mapping[str, str],
    info: DataInfo,
    trained_on: Callable[[], TrainedOn],
    test: Samples,
    device: torch.device,
) -> dict[int, Tensor]:
    """Run trained students on the test set: logits (N, K) by seed, on the CPU.

    `students` are their folders by seed, `teachers` those of the teachers by name, `stores` the URLs of their stores, which
    count where there is no such folder; `trained_on` returns what the project's students see now. Raises InputError for a
    student that is missing, that was trained with other settings, on other data or views, or by another teacher, or whose
    logits are not finite.
    """
    here, absent = {name: folder for name, folder in teachers.items() if folder.exists()}, {}
    if settings.parsed_method.needs_teacher:
        absent = {name: LogitStore.open(url, teacher=name) for name, url in stores.items() if name not in here}
    logits, remedy = {}, "run `prepkd distill`"
    for seed, folder in students.items():
        model, card = load_checkpoint(folder, device=device, hint=remedy)
        check_version(card, folder, remedy)
        check_trained_by(card.get("training"), settings, folder, remedy, but=settings.keys_without_effect)
        made_from = card.get("inputs", {})
        refuse_differences(
            {
                "seed": (card.get("seed"), seed),  # otherwise a renamed folder would pass for another student
                "inputs.dataset_fingerprint": (made_from.get("dataset_fingerprint"), info.fingerprint),
            },
            folder,
            remedy,
        )
        check_started_from(made_from, settings.weights, folder, remedy)
        check_taught_by(made_from.get("teacher"), answering_teachers(settings, here), folder, remedy)
        check_stores(made_from.get("teacher"), absent, folder, remedy)
        check_trained_on(made_from, trained_on, folder, remedy)
        logits[seed] = finite(predict(model, test).cpu(), str(folder), remedy)
    return logits


def run_logits(run: RunFile, test_fingerprint: str) -> dict[int, Tensor]:
    """Read the test logits (N, K) of one run of the comparison, by seed, for the seeds in its settings.

    Raises InputError for a file that is missing, damaged, or without one of the seeds, that was made by other settings, from
    other data or views or by another teacher, or whose logits are not finite.
    """
    remedy = f"run `{run.command}`"
    results = read_results(run.path, remedy)
    made_from = results.made_from
    check_version(made_from, run.path, remedy)
    refuse_differences({"test_fingerprint": (made_from.get("test_fingerprint"), test_fingerprint)}, run.path, remedy)
    check_trained_by(made_from.get("training"), run.settings, run.path, remedy, but=run.settings.keys_without_effect)
    check_started_from(made_from, run.settings.weights, run.path, remedy)
    here = {name: folder for name, folder in run.teachers.items() if folder not in run.absent}
    check_taught_by(made_from.get("teacher"), answering_teachers(run.settings, here), run.path, remedy)
    if run.settings.parsed_method.needs_teacher:
        stores = {name: LogitStore.open(url, teacher=name) for name, url in run.stores.items() if name not in here}
        check_stores(made_from.get("teacher"), stores, run.path, remedy)
    check_trained_on(made_from, run.trained_on, run.path, remedy)
    if absent := [seed for seed in run.settings.seed_list if seed not in results.logits]:
        there = ", ".join(map(str, results.logits))
        raise InputError(f"{run.path}: holds no seed {absent[0]}, only {there}; {remedy}")
    return {seed: finite(results.logits[seed], f"{run.path}, seed {seed}", remedy) for seed in run.settings.seed_list}


def teacher_logits(settings: Distill, teachers: Mapping[str, Path], test_fingerprint: str) -> Tensor:
    """Read the test logits (N, K) of the teachers, combined as `settings.ensemble` says; `teachers` are folders by name.

    Raises InputError for a file that is missing, or made by other weights or from other data.
    """
    answers = []
    for folder in teachers.values():
        path, remedy = folder / "test_logits.safetensors", f"run `{command_by_card(finished_card(folder), folder)}`"
        results = read_results(path, remedy)
        wanted = {
            "weights_fingerprint": load_card(folder)["weights_fingerprint"],
            "test_fingerprint": test_fingerprint,
        }
        found = {key: (results.made_from.get(key), value) for key, value in wanted.items()}
        refuse_differences(found | {"seeds": (list(results.logits), [0])}, path, remedy)
        answers.append(results.logits[0])
    if len(answers) == 1:
        return answers[0]
    named = [
        {"logits": logits - logits.amax(dim=-1, keepdim=True), "row_max": logits.amax(dim=-1)} for logits in answers
    ]
    return add_maximum(combine(named, settings.ensemble.combine, settings.teacher_weights, tau=settings.teacher_tau))


def answering_teachers(settings: Distill, teachers: Mapping[str, Path]) -> Mapping[str, Path]:
    """Return the teachers whose answers the method uses: none for `ce`."""
    return teachers if settings.parsed_method.needs_teacher else {}


def is_current(run: RunFile, test_fingerprint: str) -> bool:
    """Whether a run's file exists and belongs to these settings, teachers and test set."""
    try:
        run_logits(run, test_fingerprint)
    except InputError:
        return False
    return True

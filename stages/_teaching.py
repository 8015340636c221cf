"""Students from params: what `distill` and `compare` share."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from prepkd.errors import refuse_differences
from prepkd.models import Normalised
from prepkd.project.params import Params
from prepkd.settings.validation import validated
from prepkd.stages._shared import data_file, logs_folder, read_dataset, scratch, store_url, teacher_folder
from prepkd.tracking.loggers import logged
from prepkd.training.checkpoints import Row
from prepkd.training.distillation import TeacherFiles, distill
from prepkd.training.student_settings import Distill
from prepkd.verification.provenance import check_training
from torch import Tensor


@contextlib.contextmanager
def students(
    params: Params, settings: Distill, on_epoch: Callable[[int, Row], None]
) -> Iterator[Iterator[tuple[int, Normalised, list[Row], dict[str, Any]]]]:
    """Train the students that the settings ask for; yields an iterator of (seed, model, history, card)."""
    dataset, inputs = read_dataset(params, params.cache.views, params.cache.seed)
    teachers = {
        name: TeacherFiles(teacher_folder(name), store_url(params, name), params.teachers[name].weights)
        for name in settings.teacher_names
    }
    logger = partial(logged, params.logger, logs_folder())
    with distill(
        settings, params.cache, dataset, inputs, teachers, scratch=scratch, on_epoch=on_epoch, logged=logger
    ) as trained:
        data = {"data": str(data_file(params))}
        yield (
            (seed, model, history, card | {"inputs": card["inputs"] | data}) for seed, model, history, card in trained
        )


def check_trained_by(made_from: dict[str, Any], wanted: Distill, where: object, remedy: str, *, but: set[str]) -> None:
    """Refuse what was trained with other settings; what was trained before a setting came has its default."""
    expected = wanted.model_dump(mode="json", exclude={"checkpoint_every", "resident_gib", "source", *but})
    had = validated(Distill, made_from, f"{where}: training").model_dump(mode="json")
    check_training(had, expected, where, remedy)


def teachers_of(settings: Distill) -> dict[str, Path]:
    """The folder of each teacher that the method asks."""
    return {name: teacher_folder(name) for name in settings.teacher_names if settings.parsed.teacher}


def teacher_test_logits(settings: Distill, test: str) -> Tensor:
    """The teachers' combined logits (N, K) on the test set of fingerprint `test`; raises InputError."""
    from prepkd.models.checkpoint import load_card
    from prepkd.teacher.ensemble import combine
    from prepkd.training.predictions import read_results

    answers = []
    for name in settings.teacher_names:
        folder, remedy = teacher_folder(name), f"run `prepkd train-teacher {name}`"
        results = read_results(folder / "test_logits.safetensors", remedy)
        wanted = {"weights_fingerprint": load_card(folder)["weights_fingerprint"], "test_fingerprint": test}
        refuse_differences(
            {key: (results.made_from.get(key), value) for key, value in wanted.items()},
            folder / "test_logits.safetensors",
            remedy,
        )
        row_max = results.logits[0].amax(dim=-1)
        answers.append({"logits": results.logits[0] - row_max.unsqueeze(-1), "row_max": row_max})
    if len(answers) == 1:
        return results.logits[0]
    found = combine(answers, settings.ensemble.combine, settings.teacher_weights, tau=settings.teacher_tau)
    return found["logits"] + found["row_max"].unsqueeze(-1)

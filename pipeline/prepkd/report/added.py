"""Students from other training loops in the comparison: test logits of a folder with one folder per seed."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from prepkd.data.prepared.file import DataInfo, Split, describe, load_split
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError, refuse_differences
from prepkd.models.named_folder import files_fingerprint, load_named
from prepkd.models.names import is_factory
from prepkd.report.evaluation import Evaluation
from prepkd.training.evaluation import predict
from prepkd.training.predictions import finite, read_results, write_results

SEED = re.compile(r"seed(0|[1-9][0-9]{0,18})")
REMEDY = "take it out of compare.add, or save it anew"


@dataclass(frozen=True)
class AddedStudents:
    """Students of another training loop: their folder, their model's name, their test logits (N, K) by seed."""

    folder: Path
    student: str
    logits: Mapping[int, Tensor]


def added_students(folder: Path, path: Path, on: Evaluation, trusted: Collection[str]) -> AddedStudents:
    """Measure the students of a folder on the test set; `path` caches their logits until their files or the data change.

    `trusted` are names of models whose code may be imported. Raises InputError for a folder without seeds, for files that are
    missing, damaged or of another model, and for a student of other data or classes.
    """
    seeds, info, test = seed_folders(folder), describe(on.data), load_split(on.data, "test")
    shown = Samples.of(test, on.device, on.recipe)
    made_from: dict[str, Any] = {
        "added": {str(seed): files_fingerprint(one) for seed, one in seeds.items()},
        "dataset_fingerprint": info.fingerprint,  # of all splits: students of other training images are refused
        "test_fingerprint": test.fingerprint,
        "class_names": list(info.class_names),
        "in_channels": shown.channels,
        "size": list(shown.size),
    }
    if (kept := _kept(path, made_from)) and not is_factory(kept[0]):  # a factory's code may have changed
        return AddedStudents(folder, *kept)
    logits, names = {}, {}
    for seed, one in seeds.items():
        logits[seed], names[seed] = _measured(one, seed, info, test, shown, trusted)
    if len(set(names.values())) > 1:
        first, other = list(dict.fromkeys(names.values()))[:2]
        raise InputError(
            f"{folder}: its seeds are of different models, {first!r} and {other!r}; expected one per folder"
        )
    student = next(iter(names.values()))
    write_results(path, logits, made_from | {"student": student})
    return AddedStudents(folder, student, logits)


def seed_folders(folder: Path) -> dict[int, Path]:
    """The folders seed0, seed1, ... by seed; raises InputError if there is none, or a folder of another name."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one folder per seed in it: seed0, seed1, ...")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {int(path.name.removeprefix("seed")): path for path in inside if SEED.fullmatch(path.name)}
    if wrong := [path for path in inside if path not in found.values()]:
        raise InputError(f"{wrong[0]}: expected one folder per seed: seed0, seed1, ...; rename it, or take it out")
    if not found:
        raise InputError(f"{folder}: no folder of a seed; expected seed0, seed1, ..., one student in each")
    return dict(sorted(found.items()))


def _measured(
    folder: Path, seed: int, info: DataInfo, test: Split, shown: Samples, trusted: Collection[str]
) -> tuple[Tensor, str]:
    """Test logits (N, K) on the CPU, and the model's name."""
    model, card = load_named(folder, len(info.class_names), shown.channels, trusted)
    inputs = card.get("inputs", {})
    names = card.get("class_names", list(info.class_names))
    differing = {
        "seed": (card.get("seed", seed), seed),  # otherwise a renamed folder would pass for another student
        "num_classes": (card["num_classes"], len(info.class_names)),
        "in_channels": (card["in_channels"], shown.channels),
        "class_names": (names, list(info.class_names)),
        "inputs.dataset_fingerprint": (inputs.get("dataset_fingerprint", info.fingerprint), info.fingerprint),
    }
    refuse_differences(differing, folder, REMEDY)
    logits = predict(model.to(shown.device), shown).cpu()
    expected = len(test.labels), len(info.class_names)
    if tuple(logits.shape) != expected:
        raise InputError(f"{folder}: its logits are of shape {tuple(logits.shape)}; expected {expected}; {REMEDY}")
    return finite(logits, str(folder), REMEDY), str(card["model"])


def _kept(path: Path, made_from: Mapping[str, Any]) -> tuple[str, dict[int, Tensor]] | None:
    """The model's name and the logits of an earlier measurement of the same files on the same data; None if there is none."""
    try:
        results = read_results(path, "")
    except InputError:  # missing, or damaged: measured again
        return None
    student = results.made_from.get("student")
    if not isinstance(student, str) or results.made_from != {**made_from, "student": student}:
        return None
    return student, results.logits

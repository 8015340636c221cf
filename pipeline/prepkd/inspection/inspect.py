"""Inspect one store: its facts, statistics and picture."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from prepkd.data.prepared.file import DataInfo, Split, describe, load_split
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.inspection.feature_statistics import feature_statistics
from prepkd.inspection.logit_statistics import choose_views, logit_statistics
from prepkd.inspection.picture import draw_picture
from prepkd.inspection.store_facts import read_facts
from prepkd.inspection.store_inspection import StoreInspection
from prepkd.inspection.temperatures import dtd_temperatures
from prepkd.models.checkpoint import load_card
from prepkd.provenance.descent import ancestors
from prepkd.provenance.store_files import StoreFiles
from prepkd.provenance.stores import check_data
from prepkd.runtime.files import read_object
from prepkd.runtime.services import is_remote
from prepkd.store import FeatureStore, LogitStore
from prepkd.store.attributes import TeacherAttributes


def inspect_store(
    url: str,
    files: StoreFiles,
    *,
    views: str | None,
    tau: float,
    student: Path | None,
    distill: Callable[[], tuple[Distill, torch.device]],
    out: Path,
) -> StoreInspection:
    """Describe a store and draw its picture in `out`; an unfinished store has facts only.

    Without the prepared data among its `files` there are no labels. With a `student` (a checkpoint's folder), `distill` gives
    the settings and the device for its temperatures. Raises InputError for bad options and files that do not belong together.
    """
    if not 0 < tau < float("inf"):
        raise InputError(f"--tau is {tau:g}; expected a finite number above 0")
    facts, store = read_facts(url)
    teacher = facts.attributes.teacher
    card = teachers_card(teacher, files.teacher_folder(teacher.name))
    inspection = StoreInspection(replace(facts, weights_from=card.get("weights_from"), distilled_from=ancestors(card)))
    if store is None:
        return inspection
    if isinstance(store, FeatureStore):
        chosen = choose_views(views, store)
        return replace(inspection, features=feature_statistics(store, chosen) if chosen else None)
    assert isinstance(store, LogitStore)
    path = files.data_file(store.attributes.dataset.name)
    missing = f"{path} is not there; name the data with --data"
    read = read_data(store, path) if files.data or path.is_file() else None
    if student and read is None:
        raise InputError(f"--student looks at the images: {missing}")
    settings = distill() if student else None
    logits = logit_statistics(store, choose_views(views, store), read, tau, missing)
    inspection = replace(inspection, logits=logits)
    if student and settings and read and logits.views_read:
        dtd = dtd_temperatures(store, logits.views_read, student, read[0], *settings)
        inspection = replace(inspection, dtd=dtd)
    return replace(inspection, picture=draw(inspection, out))


def find_store(url: str, scratch: Path) -> str:
    """Return the store's place; if nothing is there, that of the one unfinished store in `scratch` that will be moved there.

    Raises InputError if there are several such unfinished stores.
    """
    if is_remote(url) or Path(url).exists():
        return url
    descriptions = sorted(scratch.glob("*/store.zarr/zarr.json"))
    growing = [path.parent for path in descriptions if is_described(path, Path(url))]
    if len(growing) > 1:
        raise InputError(
            f"{url}: no such store; unfinished ones are {', '.join(map(str, growing))}; inspect one of them"
        )
    return str(growing[0]) if growing else url


def is_described(description: Path, place: Path) -> bool:
    """Whether an unfinished store's `zarr.json` describes the store of a place; False for a damaged one."""
    try:
        made = read_object(description)["attributes"]["prepkd"]
        teacher, asked = str(made["teacher"]["name"]), made.get("asked")
        return place.stem == teacher if asked is None else place.parts[-2:] == (teacher, f"{asked['entry']}.zarr")
    except (ValueError, TypeError, KeyError, AttributeError):
        return False


def teachers_card(teacher: TeacherAttributes, folder: Path) -> dict[str, Any]:
    """Return the card of a store's teacher, which has more than the store records; {} if `folder` lacks that teacher."""
    try:
        card = load_card(folder)
    except InputError:
        return {}
    return card if card["weights_fingerprint"] == teacher.weights_fingerprint else {}


def read_data(store: LogitStore, path: Path) -> tuple[Split, DataInfo]:
    """Read the split that a store was made from; raises InputError if the file holds another one."""
    split, info = load_split(path, store.attributes.split), describe(path)
    check_data(store, split.fingerprint, len(info.class_names), len(split.labels), path)
    return split, info


def picture_path(url: str, out: Path) -> Path:
    """Return the path of a store's picture in the folder `out`."""
    return out / f"{url.rstrip('/').rsplit('/', 1)[-1].removesuffix('.zarr')}.png"


def draw(inspection: StoreInspection, out: Path) -> str:
    """Write the picture to the folder `out`; returns its path."""
    made, path = inspection.facts.attributes, picture_path(inspection.facts.store, out)
    title = f"{path.stem}: {made.teacher.model} on {made.dataset.name}, {made.encoding.name}"
    draw_picture(inspection, f"{title}, {inspection.views_caption}", path)
    return str(path)

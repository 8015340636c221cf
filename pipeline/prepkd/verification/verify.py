"""Verify a store: against its live teacher, or its files against its own manifest."""

from dataclasses import asdict
from typing import Any

from zarr.abc.store import Store

from prepkd.data.prepared.file import describe, load_split
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.models import load_checkpoint
from prepkd.provenance.store_files import StoreFiles
from prepkd.provenance.stores import check_data, check_num_classes, check_teacher
from prepkd.runtime.devices import device_like
from prepkd.runtime.torch_state import PRECISIONS
from prepkd.store import AnswerStore
from prepkd.store.attributes import IMPORTED
from prepkd.store.documents import parse_manifest, read_document
from prepkd.store.integrity import damages
from prepkd.store.layout import MANIFEST
from prepkd.store.place import open_place, sizes
from prepkd.verification.discrepancy import stricter
from prepkd.verification.live_teacher import Verification, verify_rows


def verify_store(
    url: str,
    files: StoreFiles,
    *,
    count: int,
    seed: int,
    precision: str | None = None,
    settings: str | None = None,
) -> Verification:
    """Compare `count` random (view, sample) pairs of a store with the live teacher; `files` locates teacher and data.

    Tolerates the rounding of `precision`; by default that of the stricter of the store's recorded arithmetic and the
    `settings`'. Raises InputError for a teacher or data that are not the store's own.
    """
    if precision is not None and precision not in PRECISIONS:
        raise InputError(f"--precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    store = AnswerStore.open(url)
    made, written_on = store.attributes.teacher, store.attributes.precision.device
    imported = made.model == IMPORTED
    if imported and files.teacher is None:
        raise InputError(
            f"{url}: imported, and what made its logits was not recorded: weights, preprocessing, arithmetic can't be "
            "verified; name a teacher to compare with by --teacher, or check the files with --integrity"
        )
    path = files.data_file(store.attributes.dataset.name)
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the data that the store was made from with --data")
    info, split = describe(path), load_split(path, store.attributes.split)
    check_data(store, split.fingerprint, len(info.class_names), len(split.labels), path)
    device, folder = device_like(written_on), files.teacher_folder(made.name)
    model, card = load_checkpoint(folder, device=device, hint="name the folder of the store's teacher with --teacher")
    check_num_classes(store, card, folder)
    if not imported:
        check_teacher(store, card, folder, "name the folder of the store's own teacher with --teacher")
    samples = Samples.of(split, device, store.plan.recipe)
    tolerance = precision or tolerated(store.attributes.precision.arithmetic, settings)
    return verify_rows(store, model, samples, count=count, seed=seed, tolerance=tolerance)


def tolerated(recorded: str, settings: str | None) -> str:
    """The arithmetic to tolerate: the stricter one, so that a store's claim loosens nothing; `recorded` if either is unknown."""
    return recorded if settings is None or recorded == "unknown" else stricter(recorded, settings)


def verify_files(url: str) -> dict[str, Any]:
    """Compare every file of a store with the manifest; return the damages as JSON. Raises InputError if there is no store."""
    found = damages(url)
    place = open_place(url)
    listed = sizes(place)
    files, size = (len(listed), sum(listed.values())) if listed is not None else (_listed(place, url), None)
    count = f"{len(found):,} file{'s' * (len(found) != 1)}"
    return {
        "store": url,
        "intact": not found,
        "files": files,
        "bytes": size,
        "damages": [asdict(damage) for damage in found],
        "why": f"damaged: {count}"
        if found
        else f"intact: {files:,} files" + ("" if size is None else f", {size:,} bytes"),
    }


def _listed(place: Store, url: str) -> int:
    """The number of files that a web server should have: those of the manifest, and the manifest."""
    content = read_document(place, MANIFEST)
    return 0 if content is None else 1 + len(parse_manifest(content, url))

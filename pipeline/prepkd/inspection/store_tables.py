"""A store's facts as tables: description, encoding error, provenance."""

from collections.abc import Iterator
from typing import Any

from prepkd.display.tables import TitledTable, pairs, plain_table, titled
from prepkd.display.text import counted
from prepkd.inspection.store_facts import StoreFacts
from prepkd.provenance.descent import format_chains
from prepkd.store.attributes import MeasuredAttributes, store_command
from prepkd.store.fetch import views_text


def store_tables(facts: StoreFacts) -> Iterator[TitledTable]:
    """Yield the tables for the available facts."""
    yield pairs("What it is", _description(facts))
    if measured := facts.attributes.measured:
        yield _encoding_error(measured)
    yield pairs("Where it came from", _provenance(facts))


def _description(facts: StoreFacts) -> Iterator[tuple[str, str | list[str]]]:
    attributes, chunks, row = facts.attributes, facts.chunks, facts.bytes_per_row
    yield "store", facts.store
    written = f"{chunks.there:,} of {chunks.total:,} chunks"
    if not facts.finished:
        yield "state", f"UNFINISHED: {written}; run {store_command(attributes.asked)} again to continue"
    elif chunks.there < chunks.total:
        views = f"views {views_text(facts.views_there)}" if facts.views_there else "no views"
        yield "state", f"fetched in part: {views} of {facts.views}; {written}"
    else:
        yield "state", f"finished: {written}"
    size = f"{counted(facts.views, 'view')} x {facts.samples:,} samples"
    if asked := attributes.asked:
        yield "size", size
        yield "entry", asked.entry
        yield (
            "settings",
            [f"{key} {value}" for key, value in (asked.settings or {}).items()] or "none: a feature as it is",
        )
        yield "reduced to", [f"{name} {_shape(shape)}" for name, shape in asked.sizes.items()] or "nothing"
        yield "of features", [f"{name} {_shape(shape)}" for name, shape in asked.teacher.items()]
    else:
        yield "size", f"{size} x {facts.classes:,} classes"
        settings = [f"{key} {value:g}" for key, value in attributes.encoding.model_dump().items() if key != "name"]
        yield "encoding", ", ".join([attributes.encoding.name, *settings])
    batches = f", batches of {attributes.precision.batch_size}" if attributes.precision.batch_size else ""
    yield "precision", f"{attributes.precision.arithmetic}{batches}"
    yield "format", str(attributes.format)
    stated = "not stated" if row.stated is None else f"{row.stated:.1f} stated"
    on_disk = "none on disk" if row.on_disk is None else f"{row.on_disk:.1f} on disk"
    yield "bytes per (view, sample)", f"{stated}, {on_disk}" if facts.bytes is not None else stated
    size = "a web server does not list sizes:" if facts.bytes is None else f"{facts.bytes:,} bytes in"
    yield "on disk", f"{size} {facts.files:,} files"
    if facts.manifest_sha256:
        yield "sha256 of its manifest", facts.manifest_sha256


def _shape(sizes: list[int]) -> str:
    return " x ".join(map(str, sizes))


def _encoding_error(measured: MeasuredAttributes) -> TitledTable:
    rows, flips = measured.rows, measured.argmax_flips
    table = plain_table()
    for column in ("tau", "KL, mean", "KL, max"):
        table.add_column(column, justify="right")
    for tau in sorted(measured.kl_mean, key=float):
        table.add_row(tau, f"{measured.kl_mean[tau]:.2e}", f"{measured.kl_max[tau]:.2e}")
    return titled(f"What the encoding changes, measured on {rows:,} rows: {flips:,} argmax flips", table)


def _provenance(facts: StoreFacts) -> Iterator[tuple[str, str | list[str]]]:
    attributes = facts.attributes
    dataset, teacher, views = attributes.dataset, attributes.teacher, attributes.views
    yield "dataset", f"{dataset.name}, split {attributes.split}"
    yield "", f"file {dataset.fingerprint[:12]}, split {dataset.split_fingerprint[:12]}"
    yield "teacher", f"{teacher.name}, model {teacher.model}"
    yield "weights", teacher.weights_fingerprint[:12] if teacher.weights_fingerprint else "not stated"
    if given := facts.weights_from:
        key = f", key {given['key']}" if "key" in given else ""
        known = given.get("source") or f"{given['file']}, sha256 {given['sha256'][:12]}, format {given['format']}{key}"
        yield "weights from", known
    if facts.distilled_from:
        yield "distilled from", format_chains([facts.distilled_from])
    if teacher.source:
        yield "imported from", f"{teacher.source['file']}, sha256 {teacher.source['sha256'][:12]}"
    for key, values in (teacher.preprocessing or {}).items():
        yield f"preprocessing {key}", ", ".join(f"{v:g}" for v in values) if isinstance(values, list) else str(values)
    yield "view recipe", "; ".join(map(_step, views.recipe)) or "none: the images as they are"
    if views.strong:
        yield "strong views", "; ".join(map(_step, views.strong))
    yield (
        "view plan",
        f"{views.views} views{' of each kind, the weak ones first' if views.strong else ''}, seed {views.seed}",
    )
    yield "device", attributes.precision.device
    yield "fingerprints", [f"{key} {value[:12]}" for key, value in sorted(attributes.fingerprints.items())]
    if attributes.unverified:
        yield "UNVERIFIED", attributes.unverified


def _step(step: str | dict[str, Any]) -> str:
    """A step of a view recipe, as `crop padding 4`."""
    if isinstance(step, str):
        return step
    ((name, settings),) = step.items()
    return " ".join([name, *(f"{key} {value}" for key, value in (settings or {}).items())])

"""Verify a store: compare random stored rows with the live teacher, and with negative controls."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prepkd.data.samples.samples import Samples
from prepkd.models import Normalised
from prepkd.provenance.stores import recorded_pixels
from prepkd.runtime.devices import device_name
from prepkd.store import AnswerStore
from prepkd.store.attributes import IMPORTED
from prepkd.teacher.caching import pixel_hash
from prepkd.verification.comparison import AnyDiscrepancy, Comparison, make_comparison
from prepkd.verification.controls import CONTROLS, changed_rows
from prepkd.verification.query import Query
from prepkd.verification.sampling import draw_pairs
from prepkd.verification.verdict import Measured, PixelHashes, Verdict, reach_verdict


@dataclass(frozen=True)
class Verification:
    """The result of `verify_rows`: the store, the draw, the measurements, and the verdict.

    `precision` is the arithmetic that the store records, `tolerance` the one whose rounding was tolerated.
    `not_applicable` gives the reason for each control that does not apply; `device` is where the teacher was queried,
    `written_on` where the store was written.
    """

    store: str
    encoding: str
    precision: str
    tolerance: str
    imported: bool
    seed: int
    device: str
    written_on: str
    measured: Measured
    not_applicable: Mapping[str, str]
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        """The object that `prepkd verify --json` prints; a number that is not finite is null."""
        measured = self.measured
        return {
            "store": self.store,
            "encoding": self.encoding,
            "precision": self.precision,
            "tolerance": self.tolerance,
            "imported": self.imported,
            "seed": self.seed,
            "device": self.device,
            "written_on": self.written_on,
            "samples": measured.samples,
            "views": measured.views,
            "teacher": _as_json(measured.teacher),
            "controls": {name: _as_json(control) for name, control in measured.controls.items()},
            "labels_left_out": measured.labels_left_out,
            "pixels": asdict(measured.pixels),
            "not_applicable": dict(self.not_applicable),
            "verdict": self.verdict.name,
            "why": self.verdict.why,
        }


def verify_rows(
    store: AnswerStore, teacher: Normalised, samples: Samples, *, count: int, seed: int, tolerance: str | None = None
) -> Verification:
    """Compare `count` random (view, sample) pairs of a store with the live teacher, and with controls that must differ.

    `tolerance` is the arithmetic whose rounding is tolerated, by default the one that the store records. Raises InputError if
    no view is present.
    """
    views, chosen = draw_pairs(store, count, seed)
    with store.values_as_they_are():  # wrong values are a FAIL, not an error
        stored = store.rows(views, chosen)
    query = Query.of(teacher, store.plan, samples, views, chosen)
    arithmetic = tolerance or store.attributes.precision.arithmetic
    compared = make_comparison(store, stored, query, arithmetic)
    found = compared.compare_teacher()
    controls, not_applicable = _measure_controls(store, query, compared)
    measured = Measured(
        samples=len(chosen),
        views=sorted({int(view) for view in views}),
        teacher=found,
        controls=controls,
        labels_left_out=compared.labels_left_out(),
        pixels=replay_pixels(store, samples, views),
    )
    return Verification(
        store=store.url,
        encoding=store.attributes.encoding.name,
        precision=store.attributes.precision.arithmetic,
        tolerance=arithmetic,
        imported=store.attributes.teacher.model == IMPORTED,
        seed=seed,
        device=device_name(samples.device),
        written_on=store.attributes.precision.device,
        measured=measured,
        not_applicable=not_applicable,
        verdict=reach_verdict(measured),
    )


def _measure_controls(
    store: AnswerStore, query: Query, compared: Comparison
) -> tuple[dict[str, AnyDiscrepancy], dict[str, str]]:
    """Each control's discrepancy over the rows that it changes, and why the other controls do not apply."""
    controls, not_applicable = {}, {}
    for name, make in CONTROLS.items():
        other = make(store, query)
        if isinstance(other, str):
            not_applicable[name] = other
        elif not (rows := changed_rows(store, query, other)).any():
            not_applicable[name] = "no drawn picture changes"
        else:
            controls[name] = compared.compare_control(other, rows)
    return controls, not_applicable


def replay_pixels(store: AnswerStore, samples: Samples, views: NDArray[np.int64]) -> PixelHashes:
    """The store's recorded pixel hash, the hash of the same pixels rendered now, and a hash per drawn view."""
    recorded = recorded_pixels(store)
    count = recorded.samples
    return PixelHashes(
        views=recorded.views,
        samples=count,
        sha256=recorded.sha256,
        replayed=pixel_hash(store.plan, samples, recorded.views, count),
        by_view={str(view): pixel_hash(store.plan, samples, [int(view)], count) for view in np.unique(views)},
    )


def _as_json(found: AnyDiscrepancy) -> dict[str, Any]:
    """A discrepancy as JSON, which has neither NaN nor infinities."""
    values = asdict(found)
    return _finite(values) | {"allowed": _finite(values["allowed"])}


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }

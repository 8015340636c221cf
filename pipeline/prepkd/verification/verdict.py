"""The verdict on a store: PASS, FAIL or WITHHELD, from the measurements."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prepkd.verification.comparison import AnyDiscrepancy


@dataclass(frozen=True)
class PixelHashes:
    """SHA-256 of rendered pixels.

    `sha256` is the store's record for the first `samples` samples of `views`, `replayed` the hash of the same pixels
    rendered now; `by_view` holds one hash for each drawn view.
    """

    views: list[int]
    samples: int
    sha256: str
    replayed: str
    by_view: dict[str, str]


@dataclass(frozen=True)
class Measured:
    """The measurements behind a verdict: `samples` drawn rows of `views`, their discrepancies, and the pixels.

    `labels_left_out` counts the rows whose label's logit the encoding should have kept and did not.
    """

    samples: int
    views: list[int]
    teacher: AnyDiscrepancy
    controls: Mapping[str, AnyDiscrepancy]
    labels_left_out: int
    pixels: PixelHashes


@dataclass(frozen=True)
class Verdict:
    """The verdict, and one sentence that gives the reason."""

    name: Literal["PASS", "FAIL", "WITHHELD"]
    why: str


def reach_verdict(measured: Measured) -> Verdict:
    """FAIL if logits, pixels or kept labels differ; WITHHELD if a control passes too or none applies; else PASS."""
    if faults := _faults(measured):
        return Verdict("FAIL", "; ".join(faults))
    if fooled := [name for name, control in measured.controls.items() if control.within]:
        return Verdict(
            "WITHHELD", f"{' and '.join(fooled)} went unnoticed, so agreement with this teacher proves nothing"
        )
    if not measured.controls:
        return Verdict("WITHHELD", "no control applies, so nothing shows that a wrong store would be noticed")
    count = len(measured.controls)
    return Verdict(
        "PASS",
        f"{measured.samples} stored rows of {len(measured.views)} views equal the live teacher's, "
        f"and all {count} controls failed, as they must",
    )


def _faults(measured: Measured) -> list[str]:
    """One phrase per difference from the live teacher."""
    teacher, pixels, faults = measured.teacher, measured.pixels, []
    if teacher.not_finite:
        faults.append(f"{teacher.not_finite} of {teacher.rows} rows hold values that are not finite, stored or live")
    if pixels.sha256 != pixels.replayed:
        faults.append(f"the replayed pixels' hash is {pixels.replayed[:12]}, the store says {pixels.sha256[:12]}")
    if not teacher.within:
        faults.append(teacher.fault)
    if measured.labels_left_out:
        faults.append(f"{measured.labels_left_out} rows lack their label's logit")
    return faults

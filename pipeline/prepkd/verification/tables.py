"""A verification, and a list of damaged files, as text for a terminal."""

import math
from collections.abc import Iterable, Iterator, Mapping

from rich.table import Table
from rich.text import Text

from prepkd.verification.live_teacher import Verification


def discrepancy_table(verification: Verification) -> Table:
    """One row for the teacher and one per control; 60 columns are enough."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("asked")
    for heading in ("max |dz|", "KL 1", "KL 4", "top-1", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    measured = verification.measured
    for name, found in {"teacher": measured.teacher, **measured.controls}.items():
        figures = [_short(value) for value in (found.dz, found.kl_1, found.kl_4)]
        table.add_row(name, *figures, f"{found.top1:.1%}", "within" if found.within else "outside")
    for name in verification.not_applicable:
        table.add_row(name, "", "", "", "", "n/a")
    return table


def notes(verification: Verification) -> Iterator[str]:
    """The compared rows, the limits and the pixel hashes, one line each."""
    measured = verification.measured
    teacher, pixels, allowed = measured.teacher, measured.pixels, measured.teacher.allowed
    yield (
        f"{measured.samples} samples of {len(measured.views)} views; {verification.encoding}, {verification.precision}, "
        f"asked on {verification.device}, written on {verification.written_on}; "
        f"--seed {verification.seed} draws them again"
    )
    yield (
        f"tolerance: |dz| beyond the encoding's error {_short(allowed.excess)} (found {_short(teacher.excess)}), "
        f"KL at tau 4 {_short(allowed.kl_4)}, top-1 {allowed.top1:.1%}: the rounding of {verification.tolerance}"
    )
    for name, reason in verification.not_applicable.items():
        yield f"{name}: not applicable, {reason}"
    views = ", ".join(map(str, pixels.views))
    equal = "equal to" if pixels.replayed == pixels.sha256 else f"NOT {pixels.sha256[:12]},"
    yield (
        f"pixels of views {views}, samples 0 to {pixels.samples - 1}: sha256 {pixels.replayed[:12]}, {equal} "
        "what was recorded as the store was written"
    )
    yield "pixels by view drawn: " + ", ".join(f"{view}:{sha[:8]}" for view, sha in pixels.by_view.items())


def damage_table(damages: Iterable[Mapping[str, str]]) -> Table:
    """One row per damaged file."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("array", "chunk", "problem"):
        table.add_column(heading, overflow="fold")
    for damage in damages:
        table.add_row(*(Text(damage[key]) for key in ("array", "chunk", "problem")))
    return table


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.1e}" if value else "0"

"""A verification, and a list of damaged files, as text for a terminal."""

import math
from collections.abc import Iterable, Iterator, Mapping

from rich.table import Table
from rich.text import Text

from prepkd.display.tables import plain_table
from prepkd.verification.comparison import AnyDiscrepancy
from prepkd.verification.feature_discrepancy import FeatureDiscrepancy
from prepkd.verification.live_teacher import Verification


def discrepancy_table(verification: Verification) -> Table:
    """One row for the teacher and one per control; 60 columns are enough."""
    # Narrower than `plain_table`, whose gaps of 2 would take 65 columns.
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("asked")
    measured = verification.measured
    for heading in (*_figures(measured.teacher), ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, found in {"teacher": measured.teacher, **measured.controls}.items():
        table.add_row(name, *_figures(found).values(), "within" if found.within else "outside")
    for name in verification.not_applicable:
        table.add_row(name, *("" for _ in _figures(measured.teacher)), "n/a")
    return table


def _figures(found: AnyDiscrepancy) -> dict[str, str]:
    """A discrepancy's figures, by heading."""
    if isinstance(found, FeatureDiscrepancy):
        return {"max |difference|": _short(found.difference), "share of scale": _short(found.excess)}
    figures = {"max |dz|": found.dz, "KL 1": found.kl_1, "KL 4": found.kl_4}
    return {name: _short(value) for name, value in figures.items()} | {"top-1": f"{found.top1:.1%}"}


def _limits(found: AnyDiscrepancy) -> str:
    beyond = f"{_short(found.allowed.excess)} (found {_short(found.excess)})"
    if isinstance(found, FeatureDiscrepancy):
        return f"tolerance: difference beyond the encoding's error, as a share of the mean largest |value|, {beyond}"
    kl, top1 = _short(found.allowed.kl_4), f"{found.allowed.top1:.1%}"
    return f"tolerance: |dz| beyond the encoding's error {beyond}, KL at tau 4 {kl}, top-1 {top1}"


def notes(verification: Verification) -> Iterator[str]:
    """The compared rows, the limits and the pixel hashes, one line each."""
    measured = verification.measured
    pixels = measured.pixels
    yield (
        f"{measured.samples} samples of {len(measured.views)} views; {verification.encoding}, {verification.precision}, "
        f"asked on {verification.device}, written on {verification.written_on}; "
        f"--seed {verification.seed} draws them again"
    )
    yield f"{_limits(measured.teacher)}: the rounding of {verification.tolerance}"
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
    table = plain_table()
    for heading in ("array", "chunk", "problem"):
        table.add_column(heading, overflow="fold")
    for damage in damages:
        table.add_row(*(Text(damage[key]) for key in ("array", "chunk", "problem")))
    return table


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.1e}" if value else "0"

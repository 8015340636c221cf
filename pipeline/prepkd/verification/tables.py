"""A verdict, and a list of damages, for people at a terminal."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text


def agreement_table(report: Mapping[str, Any]) -> Table:
    """One row for the teacher and one for each control; 60 columns are enough."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("asked")
    for heading in ("max |dz|", "KL 1", "KL 4", "top-1", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, found in {"teacher": report["teacher"], **report["controls"]}.items():
        figures = [_short(found[key]) for key in ("dz", "kl_1", "kl_4")]
        table.add_row(name, *figures, f"{found['top1']:.1%}", "within" if found["within"] else "outside")
    for name in report["not_applicable"]:
        table.add_row(name, "", "", "", "", "n/a")
    return table


def notes(report: Mapping[str, Any]) -> Iterator[str]:
    """What was compared and allowed, a line each."""
    allowed, pixels = report["teacher"]["allowed"], report["pixels"]
    yield (
        f"{report['samples']} samples of {len(report['views'])} views; {report['encoding']}, {report['precision']}, "
        f"asked on {report['device']}, written on {report['written_on']}; --seed {report['seed']} draws them again"
    )
    yield (
        f"tolerance: |dz| beyond the encoding's error {_short(allowed['excess'])} (found "
        f"{_short(report['teacher']['excess'])}), KL at tau 4 {_short(allowed['kl_4'])}, top-1 {allowed['top1']:.1%}"
    )
    for name, reason in report["not_applicable"].items():
        yield f"{name}: not applicable, {reason}"
    views = ", ".join(map(str, pixels["views"]))
    equal = "equal to" if pixels["replayed"] == pixels["sha256"] else f"NOT {pixels['sha256'][:12]},"
    yield (
        f"pixels of views {views}, samples 0 to {pixels['samples'] - 1}: sha256 {pixels['replayed'][:12]}, {equal} "
        "what was recorded as the store was written"
    )
    yield "pixels by view drawn: " + ", ".join(f"{view}:{sha[:8]}" for view, sha in pixels["by_view"].items())


def damage_table(damages: Iterable[Mapping[str, str]]) -> Table:
    """One row a damaged file."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("array", "chunk", "problem"):
        table.add_column(heading, overflow="fold")
    for damage in damages:
        table.add_row(*(Text(damage[key]) for key in ("array", "chunk", "problem")))
    return table


def _short(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}" if value else "0"

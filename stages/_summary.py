"""Summaries at the end of commands: figures for --json, and tables of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prepkd.display.tables import cell, pairs, plain_table, titled
from prepkd.display.text import counted, size
from prepkd.report.metrics import over_seeds
from prepkd.stages._console import show
from prepkd.store.write_store import WriteResult
from prepkd.training.checkpoints import Row
from prepkd.training.context import Trained
from rich.console import RenderableType

# The figures of `evaluate` in its table: key, name, whether the figure is a share.
FIGURES = (
    ("top1", "top-1", True),
    ("top5", "top-5", True),
    ("nll", "NLL", False),
    ("ece", "ECE", True),
    ("agreement", "agreement", True),
    ("genetic_errors", "genetic errors", True),
)


def percent(summary: Mapping[str, Any]) -> str:
    """Format a mean and its standard deviation in percent."""
    spread = "" if summary["std"] is None else f" +- {summary['std']:.2%}"
    return f"{summary['mean']:.2%}{spread}"


class Students:
    """Collects the figures of trained students, one row per seed."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}

    def noted(self, trained: Iterable[Trained], kept: Callable[[list[Row]], int]) -> Iterator[Trained]:
        """Yield the same students, and note the figures of the epoch that `kept` selects from each history."""
        for one in trained:
            self.rows[one.seed] = one.history[kept(one.history)]
            yield one

    def show(self, title: str, facts: Mapping[str, Any], folder: Callable[[int], Path] | None = None) -> None:
        """Print a table with one row per seed and the mean; with --json `facts` are added to the figures."""
        rows = [self._row(seed, folder) for seed in sorted(self.rows)]
        if not rows:
            return
        top1 = over_seeds([{"top1": row["test_top1"]} for row in rows])["top1"] | {"n": len(rows)}
        table = plain_table()
        for name in ("seed", "test top-1", "train top-1", "loss"):
            table.add_column(name, justify="right")
        for row in rows:
            shares = (f"{row[name]:.2%}" for name in ("test_top1", "train_top1"))
            table.add_row(str(row["seed"]), *shares, f"{row['train_loss']:.3f}")
        show({**facts, "students": rows, "test_top1": top1}, *titled(f"{title}: test top-1 {percent(top1)}", table))

    def _row(self, seed: int, folder: Callable[[int], Path] | None) -> dict[str, Any]:
        row = self.rows[seed]
        found = {"seed": seed, "test_top1": row["test/top1"], "train_top1": row["train/top1"]}
        place = {} if folder is None else {"folder": str(folder(seed))}
        return found | {"train_loss": row["train/loss"], "epoch": int(row["epoch"])} | place


def show_teacher(folder: Path, card: Mapping[str, Any], seconds: float) -> None:
    """Print the summary of a trained teacher."""
    training = card["training"]
    figures = {
        "teacher": card["name"],
        "model": card["model"],
        "epochs": training["epochs"],
        "test_top1": card["test_top1"],
        "parameters": card["parameters"],
        "seconds": round(seconds, 1),
        "folder": str(folder),
    }
    rows = [
        ("model", f"{card['model']}, {card['parameters']:,} parameters"),
        ("test top-1", f"{card['test_top1']:.2%}"),
        ("time", f"{seconds:,.1f} s, {counted(training['epochs'], 'epoch')}"),
        ("written to", str(folder)),
    ]
    show(figures, *pairs(f"Teacher {card['name']}", rows))


def store_figures(url: str, written: WriteResult) -> dict[str, Any]:
    """Return the figures of a store that was written, or was already finished."""
    found: dict[str, Any] = {"store": url, "already_finished": written.chunks is None, "bytes": written.bytes}
    found["sha256"] = written.sha256
    if written.chunks is not None:
        found |= {"chunks": written.chunks, "seconds": round(written.seconds, 1)}
    error = written.summary.get("teacher_error")
    return found if error is None else found | {"teacher_error": error}


def written_tables(stores: Iterable[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Render the figures of stores as tables."""
    for one in stores:
        rows = [
            (
                "state",
                "already finished"
                if one["already_finished"]
                else f"{counted(one['chunks'], 'chunk')}, {one['seconds']:,.1f} s",
            )
        ]
        if one["bytes"]:
            rows.append(("size", size(one["bytes"])))
        if "teacher_error" in one:
            rows.append(("teacher's error", f"{one['teacher_error']:.2%} of the training views"))
        yield from pairs(f"Store {one['store']}", rows)


def metric_tables(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Render the figures of `evaluate` as a table: the students over the seeds, and their teacher."""
    teacher, table = report["teacher"], plain_table()
    for name in ("on the test set", "students", "teacher"):
        table.add_column(name, justify="left" if name == "on the test set" else "right")
    certain = {"top5"} if len(report["classes"]) <= 5 else set()  # every class is among the first five
    for key, name, share in FIGURES:
        if key in report and key not in certain:
            one = report[key]
            ours = (
                percent(one)
                if share
                else f"{one['mean']:.3f}" + ("" if one["std"] is None else f" +- {one['std']:.3f}")
            )
            theirs = teacher.get(key)
            table.add_row(cell(name), ours, "" if theirs is None else f"{theirs:.2%}" if share else f"{theirs:.3f}")
    yield from titled(f"Figures of {counted(report['n'], 'seed')}", table)

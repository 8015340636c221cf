"""Accuracy against a model's cost: parameters, and multiply-adds per image."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prepkd.errors import InputError
from prepkd.html_report.charts.cost import cost_chart
from prepkd.html_report.parts import Figure, PageSection, Table, columns, number, text
from prepkd.html_report.results import Results
from prepkd.models import build_model, load_checkpoint
from prepkd.models.names import architecture
from prepkd.report.metrics import measure
from prepkd.report.run_logits import run_logits, teacher_logits


@dataclass(frozen=True)
class Size:
    """A model's number of parameters, and its multiply-adds for one test image."""

    parameters: int
    multiply_adds: int


def costs(results: Results) -> PageSection:
    """Every teacher, and every student with the top-1 of each of its runs; raises InputError."""
    notes: list[str] = []
    rows = [*_teachers(results, notes), *_students(results, notes)]
    if not rows:
        raise InputError("; ".join(notes) or "no trained model; run `dvc repro`")
    best = max(rows, key=lambda row: row["top1"])
    numeric = ["parameters", "multiply-adds per image", "MB as float32", "test top-1, %"]
    cells = [
        [
            text(row["name"]),
            text(row["model"]),
            text(row["architecture"]),
            number(row["parameters"], "{:,}"),
            number(row["multiply_adds"], "{:,}"),
            number(row["parameters"] * 4 / 1e6, "{:.3f}"),
            number(row["top1"]),
        ]
        for row in sorted(rows, key=lambda row: -row["top1"])
    ]
    table = Table(
        "Models by cost", columns("model or run", "role", "architecture", *numeric, numeric=numeric), cells, True
    )
    caption = "One dot per teacher and per run, at the mean over its seeds; the axis of costs is logarithmic."
    said = {"parameters": "Parameters", "multiply_adds": "Multiply-adds per image"}
    figures = [
        Figure(name, f"Accuracy against {title.lower()}", caption, cost_chart(rows, name, title.lower()), table)
        for name, title in said.items()
    ]
    return PageSection("costs", "Accuracy and cost", _lead(rows, best), figures, notes)


def size_of(model: nn.Module, pixels: torch.Tensor) -> Size:
    """Count a model's parameters, and its multiply-adds for pixels (1, C, H, W), half of PyTorch's FLOP count."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(pixels)
    return Size(sum(one.numel() for one in model.parameters()), max(1, counter.get_total_flops() // 2))


def _teachers(results: Results, notes: list[str]) -> list[dict[str, Any]]:
    folders = dict(results.teachers)
    for runs in results.grid.values():
        for run in runs.values():
            folders |= run.teachers
    rows = []
    for name, folder in folders.items():
        try:
            model, card = load_checkpoint(folder, device=results.device)
            logits = teacher_logits(results.settings, {name: folder}, results.test.fingerprint)
            top1 = 100 * measure(logits, results.labels)["top1"]
            rows.append(
                _row(
                    name, "teacher", card["model"], size_of(model, results.samples.evaluation_pixels(slice(0, 1))), top1
                )
            )
        except InputError as error:
            notes.append(f"Teacher {name} is left out: {error}")
    return rows


def _students(results: Results, notes: list[str]) -> list[dict[str, Any]]:
    """Rows of the comparison's readable runs, else of the students of `distill`."""
    found: list[tuple[str, str, float]] = []  # run, architecture, top-1 in percent
    several = len(results.grid) > 1
    for pair, runs in results.grid.items():
        for name, run in runs.items():
            if not run.path.is_file():
                continue
            try:
                logits = run_logits(run, results.test.fingerprint)
            except InputError as error:
                notes.append(f"{name} is left out: {error}")
                continue
            found.append((f"{name}, {pair}" if several else name, run.settings.student, _top1(results, logits)))
    if not found:
        try:
            found = [(results.settings.method, results.settings.student, _top1(results, results.student_logits))]
        except InputError as error:
            notes.append(f"The students are left out: {error}")
    sizes = {model: _size_of_new(results, model) for _, model, _ in found}
    rows = [_row(name, "student", model, sizes[model], top1) for name, model, top1 in found]
    # The dots of one student are above each other: only the highest gets the name.
    for model in sizes:
        own = sorted((row for row in rows if row["architecture"] == model), key=lambda row: -row["top1"])
        own[0]["label"] = model
        for row in own[1:]:
            row["label"] = ""
    return rows


def _top1(results: Results, logits: dict[int, torch.Tensor]) -> float:
    values = [measure(one, results.labels)["top1"] for one in logits.values()]
    return 100 * sum(values) / len(values)


def _size_of_new(results: Results, name: str) -> Size:
    """The size of an architecture on these data, built with random weights."""
    with torch.random.fork_rng(devices=[]):
        model = build_model(architecture(name), len(results.names), in_channels=results.samples.channels)
    return size_of(model.to(results.device), results.samples.evaluation_pixels(slice(0, 1)))


def _row(name: str, model: str, kind: str, size: Size, top1: float) -> dict[str, Any]:
    known = {"parameters": size.parameters, "multiply_adds": size.multiply_adds}
    return {"name": name, "label": name, "model": model, "architecture": kind, "top1": top1, **known}


def _lead(rows: list[dict[str, Any]], best: dict[str, Any]) -> str:
    teachers = [row for row in rows if row["model"] == "teacher"]
    students = [row for row in rows if row["model"] == "student"]
    if not teachers or not students:
        return f"{best['name']}: {best['parameters']:,} parameters, {best['top1']:.2f} % test top-1."
    teacher, student = (max(group, key=lambda row: row["top1"]) for group in (teachers, students))
    times = {what: teacher[what] / max(student[what], 1) for what in ("parameters", "multiply_adds")}
    return (
        f"{student['architecture']} has {student['parameters']:,} parameters and takes {student['multiply_adds']:,} "
        f"multiply-adds per image: {_factor(times['parameters'])} and {_factor(times['multiply_adds'])} of the teacher "
        f"{teacher['name']}."
    )


def _factor(times: float) -> str:
    """Format a share of the teacher's cost, such as 1/54."""
    return f"1/{times:.3g}" if times >= 1 else f"{1 / times:.3g} times that"

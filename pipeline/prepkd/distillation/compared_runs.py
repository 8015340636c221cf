"""The runs of the comparison: the section `compare` of params.yaml, its pairs of teacher and student, a run's settings."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.models.settings import ModelName
from prepkd.settings.section import FilePath, Name, Section, once
from prepkd.settings.validation import override, validated

ARROW = " -> "  # between the teacher and the student in a pair's name
MAX_RUN_BYTES = 180  # a file's name has at most 255; its temporary name is longer


class Compare(Section):
    """The comparison's grid: every run for every student and every teacher, over the seeds.

    A run is a method, then settings of `distill` that differ, joined by commas; a teacher is a key of `teachers` or
    `generations`, or several joined by '+'. Without a list, the students and teachers are those of `distill`. `add` names
    folders of students that another training loop made, one folder per seed in each: more rows of every table.
    """

    runs: Annotated[list[str], Field(min_length=1), AfterValidator(once)]
    # Not null: DVC makes one stage per entry, and none of its commands works without a list.
    students: Annotated[list[ModelName], AfterValidator(once)] = []
    teachers: Annotated[list[str], AfterValidator(once)] = []
    add: dict[Name, FilePath] = {}


def compared_pairs(compare: Compare, distill: Distill) -> list[tuple[str, str]]:
    """The pairs of teacher (several joined by '+') and student."""
    teachers = compare.teachers or ["+".join(distill.teacher_names)]
    return [(teacher, student) for teacher in teachers for student in compare.students or [distill.student]]


def run_parts(run: str) -> tuple[dict[str, str], list[str]]:
    """Split a run into its method, with weights `auto`, and the settings of `distill` that it changes; raises InputError."""
    method, *changes = re.split(r",(?![^\[]*\])", run)  # a comma within [] belongs to a list
    if not all("=" in change for change in changes):
        raise InputError(f"run {run!r}; expected METHOD[,KEY=VALUE...], e.g. kd,ce_weight=0")
    # Weights belong to a method: those of `distill` must neither contradict another method nor change `kd` to a variant.
    return {"method": method, "ce_weight": "auto", "kd_weight": "auto"}, changes


def run_settings(distill: Distill, run: str, teacher: str | None = None, student: str | None = None) -> Distill:
    """Return the settings of one run, `METHOD[,KEY=VALUE...]` over `distill`; raises InputError.

    `ce_weight` and `kd_weight` are `auto` unless the run names them; `teacher` may be several, joined by '+'.
    """
    own, changes = run_parts(run)
    if (size := max(len(part.encode()) for part in run.split("/"))) > MAX_RUN_BYTES:
        raise InputError(
            f"run {run[:40]!r}...: {size} bytes without a slash; expected at most {MAX_RUN_BYTES}, because they name a file; "
            "put what all runs share under distill"
        )
    if any(change.startswith("method=") for change in changes):
        raise InputError(f"run {run!r}: method is the part before the first comma; expected no method= after it")
    raw = distill.model_dump(mode="json", exclude_unset=True) | own
    if teacher:
        names = teacher.split("+")
        raw |= {"teacher": names[0], "teachers": names if len(names) > 1 else None}
    if student:
        raw["student"] = student
    if any(change.startswith("teacher=") for change in changes):
        raw["teachers"] = None  # else the pair's list would win over the run's own teacher
    for change in changes:
        override(raw, change, where=f"run {run!r}")
    return validated(Distill, raw, f"run {run!r}")

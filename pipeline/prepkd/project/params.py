"""The schema of params.yaml: one frozen section per stage, declared beside its code; unknown keys are refused."""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from prepkd.data.sources.settings import Prepare
from prepkd.distillation.compared_runs import Compare, compared_pairs, run_settings
from prepkd.distillation.generation_settings import Generation
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.entries import check_entries
from prepkd.runtime.devices import MAX_THREADS
from prepkd.settings.section import Name, Section, one_of
from prepkd.settings.validation import override, validated
from prepkd.settings.yaml import parse_yaml
from prepkd.teacher.settings import Cache
from prepkd.tracking.loggers import LOGGERS
from prepkd.training.teacher_settings import Teacher
from prepkd.views import ViewPlan, make_plan
from prepkd.views.settings import RecipeSteps


class Params(Section):
    """All of params.yaml."""

    threads: Annotated[int, Field(ge=1, le=MAX_THREADS)] | None = None
    devices: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = 1
    logger: Annotated[str, one_of(LOGGERS)] | None = None
    prepare: Prepare
    augment: RecipeSteps = []
    augment_strong: RecipeSteps = []
    teachers: Annotated[dict[Name, Teacher], Field(min_length=1)]
    generations: dict[Name, Generation] = {}
    cache: Cache
    distill: Distill
    compare: Compare

    @model_validator(mode="after")
    def _views_can_be_numbered(self) -> "Params":
        try:
            ViewPlan(self.augment, self.cache.views, 0, samples=1)
        except ValueError as error:
            raise ValueError(f"cache.views with augment: {error}") from None
        try:
            make_plan(self.augment, self.cache.views, 0, 1, self.augment_strong)
        except ValueError as error:
            raise ValueError(f"augment with augment_strong: {error}") from None
        self._strong_views_given(self.distill, "distill")
        for name, one in self.generations.items():
            self._strong_views_given(one.as_student, f"generations.{name}")
        return self

    @model_validator(mode="after")
    def _entries_are_features(self) -> "Params":
        try:
            check_entries(self.cache.features)
        except ValueError as error:
            raise ValueError(f"cache.features {error}") from None
        return self

    @model_validator(mode="after")
    def _generations_descend(self) -> "Params":
        if both := sorted(self.teachers.keys() & self.generations.keys()):
            raise ValueError(f"generations has {both[0]!r}, which is a key of teachers; expected another name")
        for name, settings in self.generations.items():
            if settings.teacher not in self.all_teachers:
                raise ValueError(f"generations.{name}.teacher is {settings.teacher!r}; {self.expected_teachers}")
        for name in self.generations:
            descent = [name]
            while (above := self.generations.get(descent[-1])) is not None:
                descent.append(above.teacher)
                if above.teacher == name:
                    raise ValueError(f"generations teach one another in a circle: {' <- '.join(descent)}")
                if above.teacher in descent[:-1]:  # another one's circle, reported there
                    break
        return self

    @model_validator(mode="after")
    def _teacher_known(self) -> "Params":
        known = self.all_teachers
        if self.distill.teacher not in known:
            raise ValueError(f"distill.teacher is {self.distill.teacher!r}; {self.expected_teachers}")
        for name in self.distill.teacher_names:
            if name not in known:
                raise ValueError(f"distill.teachers has {name!r}; {self.expected_teachers}")
        for several in self.compare.teachers:
            for name in several.split("+"):
                if name not in known:
                    raise ValueError(f"compare.teachers has {name!r}; {self.expected_teachers}")
        for run in self.compare.runs:
            try:
                self.variant(run)
            except InputError as error:
                raise ValueError(f"compare.runs: {error}") from None
        return self

    @model_validator(mode="after")
    def _added_students_are_no_runs(self) -> "Params":
        for name in self.compare.add:
            with contextlib.suppress(InputError):  # the expected case: no run has this name
                self.variant(name)
                raise ValueError(f"compare.add has {name!r}, which is a method; expected another name")
        return self

    @property
    def all_teachers(self) -> dict[str, Teacher | Generation]:
        """Every teacher by name: trained with labels, given, or distilled."""
        return {**self.teachers, **self.generations}

    def command_of(self, name: str) -> str:
        """The command that makes a teacher's folder."""
        return f"prepkd train-{'generation' if name in self.generations else 'teacher'} {name}"

    def refuse_imported(self, name: str) -> None:
        """Raise InputError for a teacher of which the project has only a store."""
        if name in self.teachers and self.teachers[name].imported:
            raise InputError(
                f"teachers.{name}.model is imported: there is no model to train or to ask; name one, or remove the teacher"
            )

    @property
    def expected_teachers(self) -> str:
        """The end of a message about an unknown teacher."""
        sections = "teachers or generations" if self.generations else "teachers"
        return f"expected a key of {sections}: {', '.join(self.all_teachers)}"

    @property
    def named_models(self) -> set[str]:
        """The models that the settings name, whose code may be imported."""
        models = {one.model for one in self.teachers.values()} | {one.student for one in self.generations.values()}
        return models | {student for _, student in self.pairs} | {self.distill.student}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of teacher (several joined by '+') and student in the comparison."""
        return compared_pairs(self.compare, self.distill)

    def variant(self, run: str, teacher: str | None = None, student: str | None = None) -> Distill:
        """Return the settings of one run of the comparison, as `run_settings`; raises InputError for unknown teachers."""
        if teacher:
            self._known(teacher.split("+"), f"run {run!r}")
        settings = run_settings(self.distill, run, teacher, student)
        self._known(settings.teacher_names, f"run {run!r}")
        try:
            self._strong_views_given(settings, "distill")
        except ValueError as error:
            raise InputError(f"run {run!r}: {error}") from None
        return settings

    def student_settings_of(self, teacher: str, generation: str | None) -> Distill:
        """Return the settings of the student that learns from a teacher: a generation's, or those of `distill`.

        Raises InputError for a generation of another teacher.
        """
        if generation is None:
            return self.distill
        if generation not in self.generations:
            known = ", ".join(self.generations) or "it is empty"
            raise InputError(f"--generation is {generation!r}; expected a key of generations: {known}")
        if (above := self.generations[generation].teacher) != teacher:
            raise InputError(
                f"--generation is {generation!r}, whose teacher is {above!r}; expected a generation of {teacher!r}"
            )
        return self.generations[generation].as_student

    def _strong_views_given(self, settings: Distill, where: str) -> None:
        if settings.views_per_step == 2 and not self.augment_strong:
            raise ValueError(
                f"{where}.views_per_step is 2 and augment_strong is empty; expected the recipe of the strong views, "
                "e.g. [{crop: {padding: 4}}, flip, trivial-augment, erase]"
            )

    def _known(self, names: list[str], where: str) -> None:
        for name in names:
            if name not in self.all_teachers:
                raise InputError(f"{where}: teacher is {name!r}; {self.expected_teachers}")


def load_params(path: Path, overrides: Sequence[str] = ()) -> Params:
    """Read a YAML file of settings, apply `KEY=VALUE` overrides, and validate; raises InputError with one line."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; run in the project's root or name one with --params")
    raw = parse_yaml(path, str(path))
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected sections with settings, found {type(raw).__name__}")
    for change in overrides:
        override(raw, change, where="--set")
    return validated(Params, raw, str(path))


def additions(texts: Sequence[str]) -> list[str]:
    """The overrides of `--add NAME=FOLDER` options: keys of `compare.add`; raises InputError."""
    found = []
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not folder or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise InputError(
                f"--add {text!r}; expected NAME=FOLDER, e.g. mine=students/mine; a name has letters, digits, _ and -"
            )
        found.append(f"compare.add.{name}={json.dumps(folder)}")
    return found


def plain(params: Params) -> dict[str, Any]:
    """Convert settings for another process: their classes are created at run time, and cannot be pickled."""
    return params.model_dump(mode="json", exclude_unset=True)


def from_plain(settings: Mapping[str, Any]) -> Params:
    """Restore the settings from the result of `plain`."""
    return Params.model_validate(dict(settings))

"""A project's results, read when a section first needs them, and checked to belong together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from prepkd.data.prepared.file import DataInfo, Split, describe, load_split
from prepkd.data.samples.samples import Samples
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.html_report.names import distinct_names
from prepkd.provenance.stores import check_data
from prepkd.provenance.students import TrainedOn
from prepkd.report.run_logits import RunFile, run_logits, student_logits, teacher_logits
from prepkd.store import LogitStore
from prepkd.views import Recipe


@dataclass(frozen=True)
class SelectedRun:
    """The students in the sections on single classes and samples: their run, and test logits (N, K) by seed."""

    run: str
    logits: Mapping[int, Tensor]

    @property
    def described(self) -> str:
        """The run and its seeds, for example `kd, mean over 5 seeds`."""
        return f"{self.run}, {'one seed' if len(self.logits) == 1 else f'mean over {len(self.logits)} seeds'}"


@dataclass
class Results:
    """The places of a project's results; `students` are folders by seed, `teachers` folders and `stores` URLs by name.

    `trained_on` returns what the students see now. `grid` holds the comparison's runs by `teacher -> student`; `training` is
    the folder of DVCLive's curves, with one folder per seed, `comparison` that of the comparison's tables; `added` are folders
    of students from other training loops, by name.
    """

    settings: Distill
    grid: Mapping[str, Mapping[str, RunFile]]
    data: Path
    students: Mapping[int, Path]
    teachers: Mapping[str, Path]
    stores: Mapping[str, str]
    trained_on: Callable[[], TrainedOn]
    recipe: Recipe
    device: torch.device
    training: Path
    comparison: Path
    added: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def info(self) -> DataInfo:
        """The summary of the prepared data; raises InputError, as all below do for files that are missing or do not fit."""
        return describe(self.data)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The class names in order as the page shows them: printable, of bounded length, distinct."""
        return distinct_names(self.info.class_names)

    @cached_property
    def test(self) -> Split:
        """The test set."""
        return load_split(self.data, "test")

    @cached_property
    def train(self) -> Split:
        """The training set."""
        return load_split(self.data, "train")

    @cached_property
    def samples(self) -> Samples:
        """The test set on the device."""
        return Samples.of(self.test, self.device, self.recipe)

    @cached_property
    def labels(self) -> Tensor:
        """The test set's labels, int64 (N,), on the CPU."""
        return torch.from_numpy(self.test.labels)

    @cached_property
    def opened(self) -> dict[str, LogitStore]:
        """The teachers' logit stores by name; their samples are those of the prepared data."""
        found = {name: LogitStore.open(url, teacher=name) for name, url in self.stores.items()}
        for name, store in found.items():
            classes, samples = len(self.info.class_names), len(self.train.labels)
            remedy = f"run `prepkd cache-logits {name}` again"
            check_data(store, self.train.fingerprint, classes, samples, self.data, remedy)
        return found

    @cached_property
    def student_logits(self) -> dict[int, Tensor]:
        """Test logits (N, K) by seed of the students that `distill` trained."""
        return student_logits(
            self.settings,
            self.students,
            self.teachers,
            self.stores,
            self.info,
            self.trained_on,
            self.samples,
            self.device,
        )

    @cached_property
    def teacher_logits(self) -> Tensor:
        """Test logits (N, K) of the teachers of `distill`, combined."""
        for name, folder in self.teachers.items():
            if not folder.exists():
                raise InputError(
                    f"{folder}: no such folder; run `dvc repro train-teacher@{name}`, unless its logits were imported: "
                    "then it has no test logits"
                )
        return teacher_logits(self.settings, self.teachers, self.test.fingerprint)

    @cached_property
    def selected_run(self) -> SelectedRun:
        """The students of `distill`, or of the comparison's first run with its method, else of its first run."""
        if any(folder.exists() for folder in self.students.values()):
            return SelectedRun(self.settings.method, self.student_logits)
        runs = [(text, run) for runs in self.grid.values() for text, run in runs.items() if run.path.is_file()]
        if not runs:
            raise InputError(f"{next(iter(self.students.values()))}: no such student; run `dvc repro`")
        text, run = next((one for one in runs if one[1].settings.method == self.settings.method), runs[0])
        return SelectedRun(text, run_logits(run, self.test.fingerprint))

    @property
    def teacher_logits_or_none(self) -> Tensor | None:
        """`teacher_logits`, or None if a teacher's folder is missing: students can be trained from stores alone."""
        return self.teacher_logits if all(folder.exists() for folder in self.teachers.values()) else None

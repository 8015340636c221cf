"""The state of stages and of a whole project, and the next command."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

PIPELINE = "dvc.yaml"


class StageState(StrEnum):
    """The state of a stage's outputs."""

    DONE = "done"
    OUT_OF_DATE = "out of date"
    MISSING = "missing"


@dataclass(frozen=True)
class StageStatus:
    """A stage: its name as DVC has it, its outputs, its state and the reason for it."""

    name: str
    state: StageState
    outputs: tuple[str, ...] = ()
    why: str = ""

    @property
    def pipeline(self) -> str:
        """The file of its pipeline, as `dvc repro` takes it."""
        return self.name.removesuffix(self.name_there).removesuffix(":") or PIPELINE

    @property
    def name_there(self) -> str:
        """Its name in that file; a colon in it, as in run@timm:resnet18, is its own.

        >>> StageStatus("compare/dvc.yaml:run@timm:resnet18", StageState.DONE).name_there
        'run@timm:resnet18'
        """
        return self.name.rpartition(f"{PIPELINE}:")[2]


@dataclass(frozen=True)
class Status:
    """The state of a project: its stages in order, the results that are there, the next commands, notes on what is not known.

    `compares` says whether DVC has compared the outputs with what they are made from; without DVC their presence is all that
    is known.
    """

    stages: Sequence[StageStatus]
    results: Mapping[str, str]
    next: Sequence[str]
    compares: bool
    notes: Sequence[str] = ()

    def count(self, state: StageState) -> int:
        """The number of stages in a state."""
        return sum(one.state is state for one in self.stages)

    def as_json(self) -> dict[str, Any]:
        """All of it, and the number of stages by state."""
        return {
            "stages": [asdict(one) for one in self.stages],
            "counts": {str(state): self.count(state) for state in StageState},
            "results": dict(self.results),
            "next": list(self.next),
            "compared_by_dvc": self.compares,
            "notes": list(self.notes),
        }


def present(results: Mapping[str, Path]) -> dict[str, str]:
    """The results that are there: paths by name; of folders those that hold something."""
    return {name: str(path) for name, path in results.items() if path.is_file() or _holds_something(path)}


def _holds_something(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def next_commands(
    stages: Sequence[StageStatus], *, by_dvc: bool, commands: Mapping[str, str], first: Sequence[str], page: Path
) -> list[str]:
    """The commands that come next: `first` if the raw data is not there; else what makes the first stage that is not done.

    `commands` has a command by stage for a project without DVC; `page` is the report, which is read when all is done.
    """
    waiting = next((one for one in stages if one.state is not StageState.DONE), None)
    if waiting is None:
        return [f"python -m webbrowser {page}"] if page.is_file() else ["prepkd report"]
    if is_report(waiting) and waiting.state is StageState.MISSING:  # which is no output of DVC's
        return ["prepkd report"]
    return [*first, repro(waiting) if by_dvc else commands[waiting.name]]


def is_report(stage: StageStatus) -> bool:
    """Whether a stage writes the page of all results, as both pipelines do."""
    return stage.name_there == "report"


def repro(stage: StageStatus) -> str:
    """The DVC command that makes a stage and those before it up to date."""
    return "dvc repro" if stage.pipeline == PIPELINE else f"dvc repro {stage.pipeline}"

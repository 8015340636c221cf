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
    """A stage: its name in DVC, its outputs, its state and the reason for that state.

    `elsewhere`: it ran in another clone, and its outputs are not in this one's cache.
    """

    name: str
    state: StageState
    outputs: tuple[str, ...] = ()
    why: str = ""
    elsewhere: bool = False

    @property
    def pipeline(self) -> str:
        """The path of its dvc.yaml, as an argument of `dvc repro`."""
        return self.name.removesuffix(self.name_in_pipeline).removesuffix(":") or PIPELINE

    @property
    def name_in_pipeline(self) -> str:
        """Its name in that file, which may contain a colon, as in run@timm:resnet18.

        >>> StageStatus("compare/dvc.yaml:run@timm:resnet18", StageState.DONE).name_in_pipeline
        'run@timm:resnet18'
        """
        return self.name.rpartition(f"{PIPELINE}:")[2]


@dataclass(frozen=True)
class Status:
    """The state of a project: its stages in order, the existing results, the next commands, and notes on unknown states.

    `compared_by_dvc` says whether DVC has compared the outputs with their inputs; without DVC only their existence is known.
    """

    stages: Sequence[StageStatus]
    results: Mapping[str, str]
    next: Sequence[str]
    compared_by_dvc: bool
    notes: Sequence[str] = ()

    def count(self, state: StageState) -> int:
        """The number of stages in a state."""
        return sum(one.state is state for one in self.stages)

    def as_json(self) -> dict[str, Any]:
        """All fields, and the number of stages by state."""
        return {
            "stages": [asdict(one) for one in self.stages],
            "counts": {str(state): self.count(state) for state in StageState},
            "results": dict(self.results),
            "next": list(self.next),
            "compared_by_dvc": self.compared_by_dvc,
            "notes": list(self.notes),
        }


def present(results: Mapping[str, Path]) -> dict[str, str]:
    """The existing results: paths of files and non-empty folders by name."""
    return {name: str(path) for name, path in results.items() if path.is_file() or _holds_something(path)}


def _holds_something(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def next_commands(
    stages: Sequence[StageStatus],
    *,
    by_dvc: bool,
    commands: Mapping[str, str],
    first: Sequence[str],
    page: Path,
    remote: bool = False,
) -> list[str]:
    """The next commands: those in `first`, which fetch missing raw data, then the command of the first stage that is not done.

    `commands` has the command of each stage for a project without DVC. If all is done, the command opens the report, `page`.
    With a DVC `remote`, outputs that another clone made are pulled from it instead.
    """
    waiting = next((one for one in stages if one.state is not StageState.DONE), None)
    if waiting is None:
        return [f"python -m webbrowser {page}"] if page.is_file() else ["prepkd report"]
    if is_report(waiting) and waiting.state is StageState.MISSING:  # DVC does not track the page
        return ["prepkd report"]
    if remote and (made := next((one for one in stages if one.elsewhere), None)):
        return [f"dvc pull {made.pipeline}", repro(made)]
    return [*first, repro(waiting) if by_dvc else commands[waiting.name]]


def is_report(stage: StageStatus) -> bool:
    """Whether a stage writes the page of all results, as both pipelines do."""
    return stage.name_in_pipeline == "report"


def repro(stage: StageStatus) -> str:
    """The DVC command that brings a stage and its upstream stages up to date."""
    return "dvc repro" if stage.pipeline == PIPELINE else f"dvc repro {stage.pipeline}"

"""The state of stages without DVC: whether their outputs exist."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prepkd.status.state import StageState, StageStatus


@dataclass(frozen=True)
class Expected:
    """A stage's command and its outputs: local paths, or URLs, which are not checked."""

    command: str
    outputs: tuple[str, ...]


def stages_by_files(expected: Mapping[str, Expected]) -> list[StageStatus]:
    """The state of each stage: done if its outputs exist; whether they are up to date is not known."""
    return [_of(name, one) for name, one in expected.items()]


def _of(name: str, expected: Expected) -> StageStatus:
    absent = next(_absent(expected.outputs), None)
    if absent is None:
        return StageStatus(name, StageState.DONE, expected.outputs)
    return StageStatus(name, StageState.MISSING, expected.outputs, f"no {absent}")


def _absent(outputs: Iterable[str]) -> Iterator[str]:
    return (one for one in outputs if "://" not in one and not Path(one).exists())

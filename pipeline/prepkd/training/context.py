"""The surroundings of a training run, and its result."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prepkd.models import Normalised
from prepkd.tracking.loggers import Run, Write
from prepkd.training.checkpoints import Row
from prepkd.training.progress import BatchProgress


@dataclass(frozen=True)
class RunContext:
    """The place of a training run's unfinished work, and the functions that the run reports to.

    `scratch` locks the folder for the unfinished work of a fingerprint, `logged` opens a run's loggers. `on_epoch` gets the seed
    and each epoch's figures, `on_step` the seed and the progress within an epoch, `on_inputs` the inputs of the training before
    it starts, and `say` notes of one line.
    """

    scratch: Callable[[str], AbstractContextManager[Path]]
    logged: Callable[[Run], AbstractContextManager[Write]]
    on_epoch: Callable[[int, Row], None]
    on_inputs: Callable[[Mapping[str, Any]], None] = lambda inputs: None
    say: Callable[[str], None] = lambda line: None
    on_step: Callable[[int, BatchProgress], None] = lambda seed, tick: None


class Trained(NamedTuple):
    """A trained student or teacher: its seed, model, history and card."""

    seed: int
    model: Normalised
    history: list[Row]
    card: dict[str, Any]

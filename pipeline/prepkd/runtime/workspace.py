"""Folders of a project that outlive a queued experiment's workspace: unfinished work, and the loggers' files."""

import os
from pathlib import Path

from prepkd.runtime.dvc import dvc_root

UNFINISHED = Path(".dvc/tmp/prepkd")


def scratch_root() -> Path:
    """The folder of unfinished work: PREPKD_SCRATCH, else one under the DVC root, shared by queued experiments."""
    if chosen := os.environ.get("PREPKD_SCRATCH"):
        return Path(chosen)
    if root := queue_root():
        return root / UNFINISHED
    root = dvc_root(Path.cwd())
    return root / UNFINISHED if root else Path.cwd() / ".prepkd-scratch"


def logs_folder() -> Path:
    """The loggers' folder, `results/logs` of the project, since workspaces of queued experiments are temporary."""
    return (queue_root() or Path()) / "results" / "logs"


def queue_root() -> Path | None:
    """The root of the project whose queue runs this experiment, in <root>/.dvc/tmp/exps; None outside of a queued experiment."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if folder.parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[3]
    return None

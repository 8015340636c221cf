"""The folders of a project that outlive a queued experiment's workspace: unfinished work, and the loggers' files."""

import os
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = Path(".dvc/tmp/prepkd")


def scratch_root() -> Path:
    """The folder of unfinished work: PREPKD_SCRATCH, else one under the DVC root, shared by queued experiments."""
    if chosen := os.environ.get("PREPKD_SCRATCH"):
        return Path(chosen)
    if root := queue_root():
        return root / UNFINISHED
    roots = [folder for folder in _here_and_above() if (folder / ".dvc").is_dir()]
    return roots[0] / UNFINISHED if roots else Path.cwd() / ".prepkd-scratch"


def logs_folder() -> Path:
    """The loggers' folder, `results/logs` of the project: the workspaces of queued experiments are temporary."""
    return (queue_root() or Path()) / "results" / "logs"


def queue_root() -> Path | None:
    """The project whose queue runs this: queued experiments work in <root>/.dvc/tmp/exps; None outside of one."""
    for folder in _here_and_above():
        if folder.parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[3]
    return None


def _here_and_above() -> Iterator[Path]:
    here = Path.cwd()
    yield from (here, *here.parents)

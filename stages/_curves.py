"""Learning curves of the students, written by DVCLive."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvclive.live import Live


class Curves:
    """One DVCLive log per seed, in `folder`/seed<k>."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs: dict[int, Live] = {}

    def log(self, seed: int, row: dict[str, float]) -> None:
        """Log an epoch's figures."""
        if seed not in self.logs:
            # Imported after the first epoch: the import takes half a second and would delay the first step.
            from dvclive.live import Live

            folder = self.folder / f"seed{seed}"
            self.logs[seed] = Live(str(folder), save_dvc_exp=False, dvcyaml=None, report=None)
        for key, value in row.items():
            self.logs[seed].log_metric(key, value)
        self.logs[seed].next_step()  # type: ignore[no-untyped-call]

    def end(self, seed: int) -> None:
        """Close the log of a seed."""
        self.logs[seed].end()  # type: ignore[no-untyped-call]

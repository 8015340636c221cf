"""DVC: find the project of a folder, and run DVC's commands."""

import subprocess
import sys
from pathlib import Path

DVC = sys.executable, "-m", "dvc"  # of this environment, whether or not it is on the path


def dvc_root(folder: Path) -> Path | None:
    """The root of the DVC project that contains a folder; None outside of one."""
    return next((one for one in (folder, *folder.absolute().parents) if (one / ".dvc").is_dir()), None)


def run_dvc(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a DVC command in a folder."""
    return subprocess.run((*DVC, *words), cwd=folder, text=True, capture_output=True)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The message of a failed command, in one line."""
    words = " ".join((done.stderr or done.stdout).split()).removeprefix("ERROR: ")
    return words or f"exit code {done.returncode}"

"""git and DVC around a new project, through their commands."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from prepkd.errors import InputError
from prepkd.project.schema import template
from prepkd.runtime.files import write_bytes

MESSAGE = "A prepkd project"
DVC = sys.executable, "-m", "dvc"  # of this environment, whether or not it is on the path


def make_repository(folder: Path, names: Sequence[str], *, resumed: bool = False) -> list[str]:
    """Set up git and DVC in a project, commit its files `names`, and return one line per step left to the user.

    An existing repository is used; inside one the project becomes a DVC subdirectory. `resumed`: after a call that was killed.
    Raises InputError if a command fails.
    """
    if not shutil.which("git"):
        return ["git is not installed: `git init && dvc init` are left to you"]
    if _run(folder, "git", "rev-parse", "--is-inside-work-tree").returncode:
        _need(folder, "git", "init", "--quiet")
    config = folder / ".dvc" / "config"
    fresh = not (folder / ".dvc").is_dir() or (resumed and not config.exists())
    if fresh:
        inside = bool(_run(folder, "git", "rev-parse", "--show-prefix").stdout.strip())
        _need(folder, *DVC, "init", "--quiet", "--force", *(["--subdir"] if inside else []))
    if fresh or (resumed and not config.read_text().strip()):
        write_bytes(folder / ".dvcignore", template("dvcignore").encode())
        write_bytes(config, template("dvc-config").encode())  # last: one with content is complete
    # Experiments start from a commit, and DVCLive reads it.
    _need(folder, "git", "add", "--", ".dvc", *names)
    if resumed and not _run(folder, "git", "diff", "--cached", "--quiet", "--", ".dvc", *names).returncode:
        return []  # a killed call has committed them
    if _run(folder, "git", "commit", "--quiet", "-m", MESSAGE).returncode:
        return [
            "nothing is committed yet, which experiments need: set git's user.name and user.email, then `git commit`"
        ]
    return []


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder."""
    return subprocess.run(command, cwd=folder, text=True, capture_output=True)


def _need(folder: Path, *command: str) -> None:
    """Run a command that must succeed; raises InputError with its output."""
    done = _run(folder, *command)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise InputError(f"{folder}: `{' '.join(command)}` failed: {said}")

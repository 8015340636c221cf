"""Set up git and DVC for a new project, through their commands."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from prepkd.errors import InputError
from prepkd.project.schema import template
from prepkd.runtime.dvc import run_dvc, said
from prepkd.runtime.files import write_bytes

MESSAGE = "A prepkd project"


def make_repository(folder: Path, names: Sequence[str], *, resumed: bool = False) -> list[str]:
    """Set up git and DVC in a project, commit its files `names`, and return one line per step left to the user.

    In an existing repository the project becomes a DVC subdirectory, and other changes are left as they are, staged or not.
    `resumed`: an earlier call was killed. Raises InputError if a command fails, after removing the new files.
    """
    if not shutil.which("git"):
        return ["git is not installed: `git init && dvc init` are left to you"]
    new = [name for name in (".git", ".dvc") if not (folder / name).exists()]
    inside = not _run(folder, "git", "rev-parse", "--is-inside-work-tree").returncode
    config = folder / ".dvc" / "config"
    fresh = ".dvc" in new or (resumed and not config.exists())
    own = [".dvc", *names] if fresh or resumed else list(names)
    try:
        if not inside:
            _need(folder, _run(folder, "git", "init", "--quiet"))
        if fresh:
            below = bool(_run(folder, "git", "rev-parse", "--show-prefix").stdout.strip())
            _need(folder, run_dvc(folder, "init", "--quiet", "--force", *(["--subdir"] if below else [])))
        if fresh or (resumed and not config.read_text().strip()):
            write_bytes(folder / ".dvcignore", template("dvcignore").encode())
            write_bytes(config, template("dvc-config").encode())  # last: a config with content marks completion
        _need(folder, _run(folder, "git", "add", "--", *own))
    except BaseException:
        if inside:
            _run(folder, "git", "reset", "--quiet", "--", *own)
        for name in new:  # not a `.git` in a parent folder, which was not created here
            shutil.rmtree(folder / name, ignore_errors=True)
        raise
    if resumed and not _run(folder, "git", "diff", "--cached", "--quiet", "--", *own).returncode:
        return []  # the killed call has committed them
    # Experiments start from a commit, and DVCLive reads it. With paths, because other staged changes are the user's.
    done = _run(folder, "git", "commit", "--quiet", "-m", MESSAGE, "--", *own)
    if not done.returncode:
        return []
    nameless = _run(folder, "git", "var", "GIT_COMMITTER_IDENT").returncode
    cause = "set git's user.name and user.email" if nameless else f"git says {said(done)!r}"
    return [f"nothing is committed yet, which experiments need: {cause}, then `git commit`"]


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder."""
    return subprocess.run(command, cwd=folder, text=True, capture_output=True)


def _need(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    """Raise InputError with its output if a command failed."""
    if done.returncode:
        raise InputError(f"{folder}: `{' '.join(done.args)}` failed: {said(done)}")

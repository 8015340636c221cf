"""The state of git and DVC in a project."""

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from prepkd.doctor.check import Check, error, ok, warning
from prepkd.runtime.dvc import dvc_root, run_dvc, said

LINKS = {"hardlink", "symlink"}


def git_state(folder: Path) -> Check:
    """Whether git is installed, the project is in a repository with a commit, and a name is set: experiments need commits."""
    name, effect = "git", "commands work, DVC's experiments do not"
    if not shutil.which("git"):
        return warning(name, f"not installed; {effect}", "install git")
    if (top := _said(folder, "git", "rev-parse", "--show-toplevel")) is None:
        return warning(name, f"no repository; {effect}", "git init")
    if (commit := _said(folder, "git", "rev-parse", "--short", "HEAD")) is None:
        return warning(name, f"{top}: nothing is committed; {effect}", "git add -A && git commit -m 'First commit'")
    if _said(folder, "git", "var", "GIT_COMMITTER_IDENT") is None:
        return warning(
            name, f"{top}: no name set; {effect}", "git config user.name NAME; git config user.email ADDRESS"
        )
    changed = len((_said(folder, "git", "status", "--porcelain", "--untracked-files=no") or "").splitlines())
    return ok(name, f"{top}, commit {commit}" + (f", {changed} changed files" if changed else ""))


def dvc_state(folder: Path) -> Check:
    """Whether the folder is a DVC project with a pipeline that DVC can read."""
    name, shown = "dvc", f"{version('dvc')}"
    if dvc_root(folder) is None:
        return warning(
            name, f"{shown}; no DVC project: commands work, `dvc repro` does not", "dvc init, or prepkd init"
        )
    if not (folder / "dvc.yaml").is_file():
        return warning(name, f"{shown}; no dvc.yaml here", "go to the project's root, or make one: prepkd init")
    done = run_dvc(folder, "stage", "list", "--name-only")
    if done.returncode:
        return error(name, f"{shown}; dvc.yaml cannot be read: {said(done)[:300]}", "correct dvc.yaml or params.yaml")
    return ok(name, f"{shown}, {len(done.stdout.splitlines())} stages in dvc.yaml")


def copies(folder: Path) -> bool:
    """Whether DVC copies outputs into its cache: it does unless `cache.type` has links (reflinks are not relied on)."""
    if dvc_root(folder) is None:
        return False
    done = run_dvc(folder, "config", "cache.type")
    return not LINKS & set("".join(done.stdout.split()).split(","))


def _said(folder: Path, *command: str) -> str | None:
    """A command's output; None if it fails."""
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    return None if done.returncode else done.stdout.strip()

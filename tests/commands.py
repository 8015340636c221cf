"""Run commands as a user types them: for tests of DVC, the documentation and new projects."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import preloaded
import psutil
import pytest
from click.testing import Result
from prepkd.cli import app
from ruamel.yaml import YAML
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
IDENTITY = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def environment(*, installed: bool = False, **changes: str) -> dict[str, str]:
    """Environment variables for a command: this interpreter's scripts come first; those of an outer git or DVC are removed.

    `prepkd` is the preloaded command, which starts in a tenth of the time; with `installed`, the console script itself.
    """
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("DVC", "GIT", "PREPKD", "MPLBACKEND"))
    }
    first = [] if installed else [str(preloaded.commands())]
    path = os.pathsep.join([*first, str(Path(sys.executable).parent), os.environ["PATH"]])
    # DVC starts a process after each command that sends statistics; `dvc init` does so before a project can forbid it.
    return clean | IDENTITY | {"PATH": path, "COLUMNS": "200", "DVC_NO_ANALYTICS": "1"} | changes


def run(command: str, folder: Path, *, code: int = 0, installed: bool = False, **changes: str) -> str:
    """Run a shell command and return its output; assert its exit code."""
    # To a file: `dvc queue start` leaves workers that inherit its output, so a pipe would stay open until they end.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment(installed=installed, **changes),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=500,
        )
        output.seek(0)
        said = output.read()
    assert done.returncode == code, f"{command}: exit code {done.returncode}\n{said}"
    return said


def enter(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Change to a folder, with the scratch folder in it and outside any DVC stage."""
    patch.chdir(folder)
    patch.setenv("PREPKD_SCRATCH", str(folder / "scratch"))
    patch.delenv("DVC_STAGE", raising=False)
    return folder


def invoke(*arguments: str, columns: int = 200, **settings: object) -> Result:
    """Run `prepkd` in this process and the current folder; `__` in a keyword of `settings` stands for a dot."""
    options = [part for key, value in settings.items() for part in ("-S", f"{key.replace('__', '.')}={value}")]
    return CliRunner().invoke(app, [*arguments, *options], env={"COLUMNS": str(columns), "TERM": "dumb"})


def prepkd(*arguments: str, code: int = 0, columns: int = 200, **settings: object) -> str:
    """Call `invoke`, assert the exit code and return the output."""
    done = invoke(*arguments, columns=columns, **settings)
    assert done.exit_code == code, (arguments, done.output, done.exception)
    return done.output


def prepkd_process(*arguments: str, cwd: Path, code: int = 0, columns: int = 200) -> str:
    """Run `prepkd` in a process of its own in the folder `cwd`; return its output."""
    command = shlex.join(["prepkd", *arguments])
    return run(command, cwd, code=code, COLUMNS=str(columns), PREPKD_SCRATCH=str(cwd / "scratch"), TERM="dumb")


def together(count: int, *command: str, cwd: Path, **variables: str) -> list[tuple[int, str]]:
    """Run a command in `count` processes with torchrun's variables; return each one's exit code and output."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    base = environment(OMP_NUM_THREADS="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    started = []
    for rank in range(count):
        own = {"RANK": str(rank), "WORLD_SIZE": str(count)} if count > 1 else {}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        program = preloaded.commands() / command[0]
        started.append(subprocess.Popen([program, *command[1:]], cwd=cwd, env=base | own | variables, **pipes))
    said = [process.communicate(timeout=500)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def copy_working_tree(folder: Path) -> None:
    """Copy the tracked and unignored files of the working tree to a folder, without those that `make demo` wrote."""
    for name in run("git ls-files --cached --others --exclude-standard", ROOT).splitlines():
        if (ROOT / name).exists() and Path(name).name != "dvc.lock" and not name.startswith("results/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)


def edit_params(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change params.yaml and keep its comments."""
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    change(params)
    yaml.dump(params, folder / "params.yaml")


def wait_for_queue(folder: Path, failed: int = 0) -> None:
    """Wait until every task of the queue has ended and `failed` of them have failed."""
    ends, status, idle = time.monotonic() + 1200, "", 0
    workspaces = folder.resolve() / ".dvc/tmp/exps"
    while time.monotonic() < ends:
        # `dvc queue status` takes a second of processor time from the tasks: call it only when no task is seen to run.
        if not any(within(one, workspaces) for one in psutil.process_iter()):
            status = run("dvc queue status", folder)
            if not re.search(r"\b(Queued|Running)\b", status):
                # Between two tasks the next one is, for a moment, neither queued nor running.
                if status.count("Failed") == failed:
                    return
                idle += 1
                assert idle < 30, status
        time.sleep(1)
    raise AssertionError(status)


def within(process: psutil.Process, folder: Path) -> bool:
    """Whether a process's current folder is `folder` or below; False for another user's process or one that has ended."""
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


def stop_workers(folder: Path) -> None:
    """Stop the queue's workers and their children, and wait for them; by themselves they would end only later."""
    run("dvc queue stop --kill", folder)
    workers = [one for one in psutil.process_iter() if {"queue-worker", "queue"} & set(words(one, folder))]
    children = [child for worker in workers for child in worker.children(recursive=True)]
    _, left = psutil.wait_procs([*workers, *children], timeout=30)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)


def words(process: psutil.Process, folder: Path) -> list[str]:
    """The command line of a process in `folder`; empty for other folders, other users and ended processes."""
    try:
        return process.cmdline() if Path(process.cwd()) == folder.resolve() else []
    except (psutil.Error, OSError):
        return []

"""Run `prepkd`, `dvc` and `python` in forks that have the libraries imported: most commands take less time than the imports.

`python preloaded.py FILE_DESCRIPTOR` imports them once, then forks one process per command; prepkd is imported in the fork.
`commands()` writes commands that ask for a fork: they pass arguments, folder, environment and standard streams, and return
the fork's exit code. Killing a command kills its fork. test_preloaded.py compares them with the installed ones.
"""

import atexit
import contextlib
import functools
import gc
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

LIBRARIES = [
    "torch",
    "torchvision",
    "torchmetrics.functional.classification",
    "sklearn.datasets",
    "dvclive.live",
    "zarr",
    "numcodecs",
    "h5py",
    "pandas",
    "pydantic",
    "ruamel.yaml",
    "rich.progress",
    "typer",
    "dvc.cli.parser",  # every command of dvc
    "dvc.repo.experiments.show",
    "dvc.repo.reproduce",
    "dvc.scm",
    "dvc.stage.run",
    "dvc_data.index",
    "scmrepo.git",
]
COMMANDS = ("prepkd", "dvc", "python")
CLIENT = """#!{python} -IS
import json, os, socket, sys
name, given = os.path.basename(sys.argv[0]), sys.argv[1:]
program = given[2:] if given[:2] == ["-W", "error"] else given
if name == "python" and (not program or program[0] not in ("-", "-c", "-m") and program[0][0] == "-"):
    os.execv({python!r}, [{python!r}, *given])  # it has other options
asked = json.dumps([[name, *given], os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    socket.send_fds(server, [len(asked).to_bytes(8)], [0, 1, 2])
    server.sendall(asked)
    sys.exit(int(server.recv(16) or 1))
"""


@functools.cache
def commands() -> Path:
    """Start the server and write its commands to a folder, to be put first in PATH; the server ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="prepkd-"))
    path = folder / "socket"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(64)  # before the server starts: early connections wait
    server = subprocess.Popen(
        [sys.executable, __file__, str(listening.fileno())],
        pass_fds=[listening.fileno()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    listening.close()
    atexit.register(shutil.rmtree, folder)
    atexit.register(server.wait)
    assert server.stdin is not None
    atexit.register(server.stdin.close)
    for name in COMMANDS:
        (folder / name).write_text(CLIENT.format(python=sys.executable, path=str(path)))
        (folder / name).chmod(0o755)
    return folder


def serve(listening: socket.socket) -> None:
    """Fork for each connection and return in the fork; the server exits when its standard input is closed."""
    children: dict[int, socket.socket] = {}
    ended, wake = socket.socketpair()
    wake.setblocking(False)
    # SIGCHLD tells that a fork has ended. A pipe held by the fork would not: the worker of `dvc queue start` keeps it open.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    waiting = selectors.DefaultSelector()
    for file in (listening, sys.stdin, ended):
        waiting.register(file, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                sys.exit()
            if key.fileobj is ended:
                ended.recv(4096)
                report_ends(children, waiting)
            elif key.fileobj is listening:
                client, _ = listening.accept()
                asked, streams = received(client)
                child = os.fork()
                if child == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for held in (listening, ended, wake, client, *children.values()):
                        held.detach()  # `become` closes all files; Python warns about socket objects that are still open
                    become(asked, streams)
                    return
                for number in streams:
                    os.close(number)
                children[child] = client
                waiting.register(client, selectors.EVENT_READ, child)
            elif key.data in children:  # nothing is sent after the request: the command was killed
                waiting.unregister(key.fileobj)
                os.kill(key.data, signal.SIGKILL)


def report_ends(children: dict[int, socket.socket], waiting: selectors.BaseSelector) -> None:
    """Send exit codes to the commands whose processes have ended."""
    for child in list(children):
        if not (found := os.waitpid(child, os.WNOHANG))[0]:
            continue
        client, code = children.pop(child), os.waitstatus_to_exitcode(found[1])
        if client in waiting.get_map():
            waiting.unregister(client)
        with contextlib.suppress(BrokenPipeError):
            client.sendall(str(code if code >= 0 else 128 - code).encode())
        client.close()


def received(client: socket.socket) -> tuple[tuple[list[str], str, dict[str, str]], list[int]]:
    """Read a request: (command line, folder, environment) and the descriptors of the standard streams."""
    size, streams, _, _ = socket.recv_fds(client, 8, 3)
    with client.makefile("rb") as request:
        return json.loads(request.read(int.from_bytes(size))), streams


def become(asked: tuple[list[str], str, dict[str, str]], streams: list[int]) -> None:
    """Take the requested arguments, folder, environment and streams; close the server's files."""
    arguments, folder, environment = asked
    for stream, number in enumerate(streams):
        os.dup2(number, stream)
    os.closerange(3, 256)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = arguments
    sys.path[:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))


def leave() -> None:
    """Exit without destroying the libraries' objects, which takes longer than most commands."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run_python(program: str, arguments: list[str]) -> None:
    """Run `python FILE`, `python -`, `-c CODE` or `-m MODULE`, with warnings as errors after `-W error`."""
    if program == "-W":
        warnings.simplefilter(arguments[0])  # type: ignore[arg-type]
        program, *arguments = arguments[1:]
    sys.argv[:] = [program, *arguments]
    if program == "-m":
        sys.argv.pop(0)
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return
    if program not in ("-", "-c"):
        sys.path.insert(0, str(Path(program).resolve().parent))
        runpy.run_path(program, run_name="__main__")
        return
    sys.path.insert(0, "")
    text = sys.argv.pop(1) if program == "-c" else sys.stdin.read()
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    exec(compile(text, "<string>", "exec"), vars(module))


def run() -> int | None:
    """Run the command named by `sys.argv` as its console script does; return its exit code."""
    if sys.argv[0] == "python":
        run_python(sys.argv[1], sys.argv[2:])
        return 0
    main: Callable[[], int | None] = import_module({"prepkd": "prepkd.cli", "dvc": "dvc.cli"}[sys.argv[0]]).main
    return main()


if __name__ == "__main__":
    status = 1  # after an exception, which Python has printed
    atexit.register(leave)  # registered first, hence called last, after the libraries' own handlers
    for library in LIBRARIES:
        import_module(library)
    gc.freeze()  # the forks' garbage collection skips these objects, so their memory stays shared
    serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        status = run() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        raise

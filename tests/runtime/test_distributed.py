"""Processes wait long for a lock, and not for a process that hangs or never comes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from commands import environment, together

WORKER = Path(__file__).parent / "waiting_worker.py"


def test_only_a_lock_is_waited_for_longer_than_the_limit(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(WORKER.parents[1])])
    (first, said), (second, other) = together(2, "python", str(WORKER), str(tmp_path), cwd=tmp_path, PYTHONPATH=paths)
    assert (first, second, other) == (0, 0, "locked\n"), said + other
    assert said.splitlines() == [
        "locked",
        "process 0 waited 0.0666667 minutes for another one, which hangs; end all processes, then run the same command "
        "again to continue",
    ]


ALONE = """
from datetime import timedelta
from prepkd.errors import InputError
from prepkd.runtime import distributed
distributed.LIMIT = timedelta(seconds=1)
try:
    with distributed.process_group():
        print("joined")
except InputError as error:
    print(error)
"""


def test_a_process_that_never_comes_is_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = environment(RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    done = subprocess.run([sys.executable, "-c", ALONE], env=alone, stdout=subprocess.PIPE, text=True, timeout=100)
    assert done.stdout.startswith("2 processes can't be joined: ") and len(done.stdout.splitlines()) == 1

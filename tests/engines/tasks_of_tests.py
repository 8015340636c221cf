"""Functions that the tests' tasks run in processes of their own."""

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from prepkd.errors import InputError
from prepkd.runtime.signals import Interrupted


def double(number: int) -> int:
    print(f"{number} in {Path.cwd().name}", file=sys.stderr)
    os.write(2, b"and from a library\n")
    return 2 * number


def many(count: int) -> bytes:
    return bytes(count)


def refuse() -> None:
    raise InputError("x.yaml: expected a number", "and more")


def fail() -> None:
    raise ZeroDivisionError("by zero")


def leave() -> None:
    sys.exit(3)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_sending() -> bytes:
    """Return a result of which half is sent before the process is killed."""

    def half(connection: Connection, message: bytes) -> None:
        os.write(connection.fileno(), message[: len(message) // 2])
        die()

    Connection._send = half  # type: ignore[attr-defined]
    return bytes(1000)


def full() -> None:
    raise OSError(28, "No space left on device", "model.pt")


def work_until_interrupted(name: str) -> None:
    """Write NAME.began, wait, and write NAME.saved when a signal interrupts."""
    Path(name).with_suffix(".began").touch()
    try:
        while True:
            time.sleep(0.01)
    except Interrupted:
        Path(name).with_suffix(".saved").touch()
        raise


def write_much(count: int) -> None:
    """Write more lines than a pipe holds."""
    for _ in range(count):
        print("line")

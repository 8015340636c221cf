"""A faulty ZARR_* variable is named; the store is not blamed for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

READ = "import sys; from prepkd import LogitStore; print(LogitStore.open(sys.argv[1]).lookup([0], [0]).shape)"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ZARR_ASYNC__CONCURRENCY", "abc"),
        ("ZARR_ASYNC__CONCURRENCY", "0"),
        ("ZARR_ARRAY__ORDER", "x"),
        ("ZARR_CODEC_PIPELINE__PATH", "x"),
        ("ZARR_BUFFER", "x"),
        ("ZARR_ASYNC", "3"),
    ],
)
def test_a_faulty_variable_is_named(name: str, value: str, made_up: Path) -> None:
    done = read(made_up, {name: value})
    last = done.stderr[done.stderr.index("prepkd.errors.InputError: ") :].removeprefix("prepkd.errors.")
    assert last.startswith(f"InputError: {name}: Zarr can't read an array with this environment: "), done.stderr


def test_a_sound_variable_is_taken(made_up: Path) -> None:
    done = read(made_up, {"ZARR_ASYNC__CONCURRENCY": "2"})
    assert done.returncode == 0 and done.stdout.startswith("(1, "), done.stderr


def read(store: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Read a row in a process of its own: Zarr reads its variables when it is imported."""
    command = [sys.executable, "-c", READ, str(store)]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=120)

"""Freed memory is kept for the next step, unless somebody asks for something else."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from prepkd.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
np.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 4 * 2**24 * 8 // 4096  # of all four arrays; huge pages are asked for by nobody here


def faults(freed: str, **environment: str) -> int:
    """How many pages the kernel made for four arrays of 128 MiB, one after the other."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    clean |= {"NUMPY_MADVISE_HUGEPAGE": "0"} | environment
    done = subprocess.run([sys.executable, "-c", FAULTS, freed], env=clean, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="prepkd changes glibc's malloc only")
def test_freed_memory_is_used_again() -> None:
    assert faults("kept") < PAGES / 100
    assert faults("returned") > PAGES / 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="prepkd changes glibc's malloc only")
def test_what_the_environment_asks_for_stands() -> None:
    assert faults("kept", MALLOC_TRIM_THRESHOLD_="100000") > PAGES / 20


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    from prepkd import allocator

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("it was touched"))
    allocator.keep_freed_memory()

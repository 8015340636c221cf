"""Freed memory is kept for the next step, unless the environment sets the allocator otherwise."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from prepkd.runtime.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
np.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 4 * 2**24 * 8 // 4096  # of all four arrays; huge pages are off


def faults(freed: str, **environment: str) -> int:
    """Count the pages that the kernel maps for four arrays of 128 MiB, one after the other."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    clean |= {"NUMPY_MADVISE_HUGEPAGE": "0"} | environment
    done = subprocess.run([sys.executable, "-c", FAULTS, freed], env=clean, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="prepkd changes glibc's malloc only")
def test_freed_memory_is_used_again() -> None:
    assert faults("kept") < PAGES / 100
    assert faults("returned") > PAGES / 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="prepkd changes glibc's malloc only")
@pytest.mark.parametrize("name, value", [("MALLOC_ARENA_MAX", "8"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=8")])
def test_the_environments_settings_take_precedence(name: str, value: str) -> None:
    assert faults("kept", **{name: value}) > PAGES / 20


ARENAS = """
import ctypes, sys, threading
from prepkd.runtime.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
together = threading.Barrier(4)
def work():
    libc.malloc(ctypes.c_size_t(100_000))
    together.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
[one.start() for one in threads], [one.join() for one in threads]
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out), libc.fflush(out)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="prepkd changes glibc's malloc only")
def test_threads_share_an_arena() -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    found = {
        freed: subprocess.run(
            [sys.executable, "-c", ARENAS, freed], env=clean, capture_output=True, text=True, check=True
        ).stdout.count("<heap nr=")
        for freed in ("kept", "returned")
    }
    assert found["kept"] == 1 < found["returned"]


HOLES = """
import numpy as np
from pathlib import Path
from prepkd.runtime.allocator import keep_freed_memory, return_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
keep_freed_memory()
arrays = [np.ones(2**17) for _ in range(64)]  # 1 MiB each
del arrays[::2]  # 32 holes
before = resident()
return_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="prepkd changes glibc's malloc only")
def test_holes_are_returned_where_asked() -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", HOLES], env=clean, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 24 * 2**20


SLABS = """
import numpy as np
import torch
from pathlib import Path
from prepkd.runtime.allocator import keep_freed_memory, new_slab
def reserved():
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmData:")).split()[1]) * 1024
keep_freed_memory()
like, small = torch.zeros(1), []
held = new_slab(like, 2**24).fill_(1)  # 64 MiB
before = reserved()
for _ in range(8):  # views: the next one is made while small arrays fill what is free
    small.append(np.ones(2**14))
    row = new_slab(like, 2**14, 2**10).fill_(2)[7]
    held = row
print(reserved() - before)
del held, row
print(before - reserved())
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc/self/status")
def test_slabs_take_no_more_than_those_alive() -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", SLABS], env=clean, capture_output=True, text=True, check=True)
    grown, returned = map(int, done.stdout.split())
    assert grown < 80 * 2**20  # one extra slab at most: the last view is freed when the next one is assigned
    assert returned > 48 * 2**20


@pytest.mark.parametrize("rows", [3, 2**20])
def test_a_slab_is_a_tensor_as_any(rows: int) -> None:
    import torch
    from prepkd.runtime.allocator import SLAB, new_slab

    like = torch.zeros(1, dtype=torch.float64)
    slab = new_slab(like, rows, 2)
    assert (slab.shape, slab.dtype, slab.is_contiguous()) == ((rows, 2), torch.float64, True)
    assert (rows * 16 >= SLAB) == (rows > 3)
    other = new_slab(like, rows, 2).fill_(1)
    slab.fill_(5)
    assert other.eq(1).all() and slab[-1].sum() == 10 and slab.clone().eq(5).all()


def test_stages_that_compute_on_a_cpu_keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from prepkd.runtime import devices

    kept: list[str] = []
    monkeypatch.setattr(devices, "keep_freed_memory", lambda: kept.append("once"))
    before = torch.get_num_threads()
    for available in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        devices.choose_device(before)
        devices.device_like(f"cpu, {before} threads")
        assert len(kept) == (0 if available else 2)


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    from prepkd.runtime import allocator

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("it was touched"))
    allocator.keep_freed_memory()
    allocator.return_freed_memory()

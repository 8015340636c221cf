"""The machine: GPU, processors, compiler, shared memory, open files."""

import os
import resource
import shutil
import sysconfig
from pathlib import Path

import torch

from prepkd.display.text import size
from prepkd.doctor.check import Check, error, ok, warning
from prepkd.runtime.processors import processors

MIN_FILES, ENOUGH_FILES = 256, 1024  # file descriptors per process
MIN_SHARED_MEMORY = 2**30  # bytes of /dev/shm, for several processes and Ray
DRIVER = Path("/proc/driver/nvidia/version")


def platform() -> Check:
    """Whether prepkd is tested on this operating system."""
    name, system = "platform", os.uname().sysname
    if system == "Linux":
        return ok(name, f"Linux {os.uname().release}")
    return warning(name, f"{system}, on which prepkd is not tested", "if something fails, use Linux")


def gpu() -> Check:
    """The GPUs that torch sees; a driver without visible GPUs means a torch built for CPUs, an old driver, or hidden GPUs."""
    name = "gpu"
    if torch.cuda.is_available():
        seen = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        return ok(name, ", ".join(f"{one.name}, {size(one.total_memory)}" for one in seen))
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return ok(name, "none: CUDA_VISIBLE_DEVICES hides them")
    if not DRIVER.is_file() and not shutil.which("nvidia-smi"):
        return ok(name, f"none; {processors()} processors compute, with {torch.get_num_threads()} threads by default")
    if torch.version.cuda is None:
        return warning(name, "an NVIDIA driver, and a torch built without CUDA", "install a CUDA build of torch")
    found = f"an NVIDIA driver, and torch for CUDA {torch.version.cuda} sees no GPU"
    return warning(name, found, "run nvidia-smi; a driver older than torch's CUDA needs an update")


def compiler() -> Check:
    """Whether `compile` can work: it needs a C++ compiler and the headers of this Python."""
    name = "compiler"
    wanted = os.environ.get("CXX", "")
    found = next(filter(None, map(shutil.which, filter(None, (wanted, "g++", "c++", "clang++")))), None)
    effect = "compile: auto trains without it, compile: true fails"
    if found is None:
        return warning(name, f"no C++ compiler; {effect}", "install g++ (Debian: apt-get install g++)")
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if not headers.is_file():
        return warning(name, f"{found}, but no {headers}; {effect}", "install Python's headers (Debian: python3-dev)")
    return ok(name, found)


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """The free shared memory, which NCCL, Ray and torch use between processes."""
    name = "shared memory"
    if not folder.is_dir():
        return warning(name, f"no {folder}; several processes and Ray need it", "mount a tmpfs there")
    usage = shutil.disk_usage(folder)
    found = f"{folder}: {size(usage.free)} free of {size(usage.total)}"
    if usage.free < MIN_SHARED_MEMORY:
        found += "; one process needs none, several and Ray do"
        return warning(name, found, "give more, as docker run --shm-size=8g")
    return ok(name, found)


def open_files() -> Check:
    """The limit of open files per process: several chunks of a store are read at once."""
    name, (soft, hard) = "open files", resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return ok(name, "no limit")
    at_most = "no limit" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    found = f"{soft:,} at once"
    remedy = f"ulimit -n {ENOUGH_FILES if hard < 0 else min(hard, 4096)} (at most {at_most})"
    if soft < MIN_FILES:
        return error(name, found, remedy)
    return warning(name, found, remedy) if soft < ENOUGH_FILES else ok(name, found)


def writable(folder: Path, name: str) -> Check:
    """Whether a folder is writable, or can be created if missing."""
    above = next(one for one in (folder, *folder.absolute().parents) if one.is_dir())
    if os.access(above, os.W_OK):
        return ok(name, f"{folder}: {size(shutil.disk_usage(above).free)} free")
    return error(name, f"{folder} cannot be written", "change its permissions, or set PREPKD_SCRATCH to another folder")

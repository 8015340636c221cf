"""torch's global state, as it was before once the work is done."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch


def fork_rng(device: torch.device) -> AbstractContextManager[None]:
    """Restore torch's random state of the CPU and of `device` on exit; torch's own default asks every GPU of the machine."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextlib.contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """Forbid or allow non-deterministic kernels, until exit."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted:  # cuBLAS is deterministic only with a workspace of fixed size, which it sets up at its first call
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)

"""torch's global state, as it was before once the work is done."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

# Name -> the float32 precision of CUDA's backends, and whether to autocast to bfloat16.
PRECISIONS = {"ieee": ("ieee", False), "tf32": ("tf32", False), "bf16": ("ieee", True)}


def fork_rng(device: torch.device) -> AbstractContextManager[None]:
    """Restore torch's random state of the CPU and of `device` on exit; torch's own default asks every GPU of the machine."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def finish_queued(device: torch.device) -> None:
    """Wait until a GPU has done what is queued there, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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


@contextlib.contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in `ieee` float32 (no TF32), `tf32` or `bf16` (autocast) within the context; raises KeyError for others.

    Not around several steps of a training: autocast keeps its copies of the weights until its outermost context ends.
    """
    float32, autocast = PRECISIONS[precision]
    with float32_precision(float32), torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
        yield


@contextlib.contextmanager
def float32_precision(name: str) -> Iterator[None]:
    """Compute float32 on a GPU in `ieee` or `tf32` within the context."""
    # torch has no type information for the attribute.
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision == "tf32" for backend in backends]
    _allow_tf32(*[name == "tf32"] * 2)
    try:
        yield
    finally:
        _allow_tf32(*before)


def _allow_tf32(matmul: bool, convolution: bool) -> None:
    """Set the older switches, which change `fp32_precision` with them: after a change of that alone torch refuses to read these.

    A user's model may read them, as `torch.backends.cudnn.flags` does.
    """
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = convolution

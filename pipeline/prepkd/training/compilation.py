"""Compilation of a training step, with a fallback to the eager step where the machine cannot compile."""

import atexit
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prepkd.errors import InputError
from prepkd.training.settings import Training

log = logging.getLogger(__name__)

SampleValues = dict[str, Tensor]  # per sample, (B,)
# Pixels (B, C, H, W), labels, the batch's share of its step's samples (), and the teacher's answers -> the objective's values
# and `top1`, detached; gradients are added to those already there.
GradientFunction = Callable[..., SampleValues]

WORTH_COMPILING = 10_000  # steps from which `compile: auto` compiles on a GPU
CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"  # names the folder of PyTorch's compiler cache
# Raised without a compiler, Python's headers or a folder for libraries; Dynamo's and Inductor's own errors are RuntimeErrors.
FAILURES = (RuntimeError, OSError, ImportError, AssertionError, NotImplementedError, subprocess.SubprocessError)


def should_compile(settings: Training, device: torch.device, steps: int) -> bool:
    """Whether to compile: as `compile` says; with `auto` on a GPU, for runs long enough to amortise it.

    On a CPU a compiled step gains 0 to 10 % (docs/benchmarks.md). The rule depends on settings alone, not on measured times,
    so a run's last bits do not depend on how busy the machine was.
    """
    if settings.compile != "auto":
        return settings.compile
    return device.type == "cuda" and steps >= WORTH_COMPILING


def make_cache_folder(settings: Training) -> None:
    """Make the folder that TORCHINDUCTOR_CACHE_DIR names; if that fails, warn in one line and use a temporary folder instead.

    PyTorch makes the folder whenever a model is trained, compiled or not, and fails if it can't. Raises InputError if compiling
    is required.
    """
    if (wanted := os.environ.get(CACHE_VARIABLE)) is None:
        return
    try:
        Path(wanted).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{CACHE_VARIABLE} is {wanted!r}, which can't be made: {error.strerror}"
        if settings.compile is True:
            raise InputError(f"{reason}; set it to a folder that can be written, or unset it") from None
        log.warning(f"{reason}; a temporary folder takes its place")
        os.environ[CACHE_VARIABLE] = temporary = tempfile.mkdtemp(prefix="prepkd-inductor-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)


def compiled(forward: Callable[..., SampleValues]) -> Callable[..., SampleValues]:
    """Compile a forward pass for the shapes of its first batch; a batch of another shape, the epoch's last, runs eagerly.

    `torch.compile` is called with the first batch, so that an `CompiledWithFallback` also catches errors of its imports.
    """
    fast: Callable[..., SampleValues] | None = None
    shapes: list[Any] = []

    def run(*inputs: Tensor) -> SampleValues:
        nonlocal fast
        found = [(one.shape, one.dtype) for one in inputs]
        if fast is None:
            fast, shapes[:] = torch.compile(forward, dynamic=False), found
        return fast(*inputs) if found == shapes else forward(*inputs)

    return run


class CompiledWithFallback:
    """A compiled step that falls back to the eager one if its first call fails; with `required` it raises InputError instead.

    The first call compiles the forward and the backward pass. If it fails, its changes to `modules` are undone, so that the run
    equals an eager one to the last bit.
    """

    def __init__(
        self, fast: GradientFunction, eager: GradientFunction, modules: Sequence[nn.Module], *, required: bool
    ) -> None:
        self.fast, self.eager, self.required = fast, eager, required
        self.modules = nn.ModuleList(modules)
        self.chosen: GradientFunction | None = None

    def __call__(self, *inputs: Tensor) -> SampleValues:
        """The step's values."""
        return self.chosen(*inputs) if self.chosen else self._first(*inputs)

    def _first(self, *inputs: Tensor) -> SampleValues:
        undo = saved_state(self.modules, inputs[0].device)
        try:
            values = self.fast(*inputs)
        except FAILURES as error:
            reason = first_line(error)
            if self.required:
                raise InputError(
                    f"compile is true, and torch.compile fails: {reason}; install a C++ compiler, or set compile: false"
                ) from error
            log.warning(f"compile is auto, and torch.compile fails: {reason}; training continues without it")
            undo()
            self.chosen = self.eager
            return self.eager(*inputs)
        self.chosen = self.fast
        return values


def saved_state(modules: nn.Module, device: torch.device) -> Callable[[], None]:
    """Return a function that restores the current buffers, gradients and random state of torch."""
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in modules.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    gradients = [(one, None if one.grad is None else one.grad.clone()) for one in modules.parameters()]
    random = torch.get_rng_state()
    random_there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore() -> None:
        for module, name, buffer, value in buffers:
            buffer.copy_(value)
            setattr(module, name, buffer)  # a forward pass may assign another tensor
        for parameter, gradient in gradients:
            parameter.grad = gradient
        torch.set_rng_state(random)
        if random_there is not None:
            torch.cuda.set_rng_state(random_there, device)

    return restore


def first_line(error: BaseException) -> str:
    """Return an error's first line and the first line of the compiler's output with `error:`, without the advice after them."""
    first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    named = [line for line in others if re.search(r"\berror:", line)]
    return " ".join([f"{type(error).__name__}:", first, *named[:1]])[:400]

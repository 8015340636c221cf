"""The work of one batch, from pixels to gradients: as it is, compiled, or replayed as a CUDA graph."""

import shutil
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from prepkd.data.samples.labels import main_class
from prepkd.training.settings import Training

Values = dict[str, Tensor]
# Student logits (B, K), labels (B,) or classes' shares (B, K), the teacher's offsets (B, K) and row maxima (B,) or None ->
# per-sample `loss` and what is logged.
Loss = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Values]
# Pixels (B, C, H, W), labels, the batch's share of its step's samples (), and the teacher's answers where there is one ->
# what `Loss` returned and `top1`, detached; the gradients are added to those that are there.
Gradients = Callable[..., Values]

# `compile: auto` compiles from so many steps on. On a CPU that takes 15 to 40 s and saves 6 ms of resnet8's 90 ms a step: repaid
# in 7,000 steps at most. Of larger students' steps, which are convolutions, it saves nothing, and costs 1 % of so many steps
# (docs/benchmarks.md).
WORTH_COMPILING = 10_000
EAGER_CALLS = 3  # before a graph is captured: cuDNN chooses its kernels, and every gradient gets its place


def make_gradients(model: nn.Module, loss: Loss, settings: Training, device: torch.device, steps: int) -> Gradients:
    """What computes a batch's gradients on a device, for a training of so many steps."""
    bf16 = uses_bf16(settings.precision, device)

    def forward(pixels: Tensor, labels: Tensor, *answers: Tensor) -> Values:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(pixels)
        values = loss(logits, labels, *(answers or (None, None)))
        return values | {"top1": (logits.detach().argmax(dim=-1) == main_class(labels)).float()}

    run = compiled(forward) if compiles(settings, device, steps) else forward

    def gradients(pixels: Tensor, labels: Tensor, share: Tensor, *answers: Tensor) -> Values:
        values = run(pixels, labels, *answers)
        (values["loss"].mean() * share).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in values.items()}

    # Deterministic runs stay eager: a replayed graph is not checked for kernels that are not.
    return Replayed(gradients) if device.type == "cuda" and not settings.deterministic else gradients


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether to train in bf16: `auto` where the hardware multiplies it natively."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported()


def compiles(settings: Training, device: torch.device, steps: int) -> bool:
    """Whether to compile: as `compile` says, and with `auto` where the steps repay it and there is a compiler.

    A rule of settings alone, not of measured times: a run's last bits don't depend on how busy the machine was.
    """
    if settings.compile != "auto":
        return settings.compile
    able = device.type == "cuda" or shutil.which("g++") or shutil.which("clang++")
    return bool(able) and steps >= WORTH_COMPILING


def compiled(forward: Callable[..., Values]) -> Callable[..., Values]:
    """A forward pass compiled for the shapes of its first batch; a batch of others, the epoch's last, runs as it is."""
    fast = torch.compile(forward, dynamic=False)
    shapes: list[Any] = []

    def run(*inputs: Tensor) -> Values:
        found = [(one.shape, one.dtype) for one in inputs]
        if not shapes:
            shapes.extend(found)
        return fast(*inputs) if found == shapes else forward(*inputs)

    return run


class Replayed:
    """A function of tensors as a CUDA graph: its kernels are launched all at once, without Python between them.

    The first `EAGER_CALLS` calls run it as it is; then it is captured, for the shapes of the first call, and replayed on
    copies of its inputs. Inputs of other shapes run it as it is. Gradients must stay in place between calls
    (`zero_grad(set_to_none=False)`).
    """

    def __init__(self, function: Gradients, recorder: "Recorder | None" = None) -> None:
        self.function, self.recorder = function, recorder or CudaRecorder()
        self.calls = 0
        self.inputs: list[Tensor] = []
        self.replay: Callable[[], Values] | None = None

    def __call__(self, *inputs: Tensor) -> Values:
        """The function's values, in tensors that the next call may write to."""
        if not self.inputs:
            self.inputs = [one.clone() for one in inputs]
        if [one.shape for one in inputs] != [one.shape for one in self.inputs]:
            return self.function(*inputs)
        if self.calls < EAGER_CALLS:
            self.calls += 1
            return self.recorder.warm_up(lambda: self.function(*inputs))
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        if self.replay is None:
            self.replay = self.recorder.capture(lambda: self.function(*self.inputs))
        return self.replay()


class Recorder(Protocol):
    """What captures a function of no arguments, after it was warmed up."""

    def warm_up(self, function: Callable[[], Values]) -> Values:
        """Run a function that will be captured."""

    def capture(self, function: Callable[[], Values]) -> Callable[[], Values]:
        """Record it, and return what runs the record again on the same memory and returns the values there."""


class CudaRecorder:
    """CUDA graphs on the current device."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def warm_up(self, function: Callable[[], Values]) -> Values:
        """Run it beside the default stream, which can't be captured: libraries allocate by stream."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            values = function()
        torch.cuda.current_stream().wait_stream(self.stream)
        for value in values.values():
            value.record_stream(torch.cuda.current_stream())
        return values

    def capture(self, function: Callable[[], Values]) -> Callable[[], Values]:
        """Record its kernels, which runs none of them; a thread may move the next epoch's answers meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            values = function()

        def replay() -> Values:
            graph.replay()
            return values

        return replay

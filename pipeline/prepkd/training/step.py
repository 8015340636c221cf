"""The work of one batch, from pixels to gradients: eager, compiled, or replayed as a CUDA graph."""

import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from prepkd.data.samples.labels import main_class
from prepkd.models.features import STRONG, Answers, WithFeatures
from prepkd.models.user_errors import place
from prepkd.runtime import distributed
from prepkd.training.batches import STRONG_PIXELS
from prepkd.training.compilation import (
    CompiledWithFallback,
    GradientFunction,
    SampleValues,
    compiled,
    first_line,
    saved_state,
    should_compile,
)
from prepkd.training.data_parallel import PerProcessRandom, gather_answers, wrap_ddp
from prepkd.training.settings import Training

log = logging.getLogger(__name__)

T = TypeVar("T")
EAGER_CALLS = 3  # before a graph is captured: cuDNN chooses its kernels, and every gradient is allocated


class TrainingObjective(Protocol):
    """A module that maps student answers, labels and teacher answers to `loss` and logged values, per sample."""

    epoch: Tensor  # from 0, ()

    @property
    def features(self) -> tuple[str, ...]:
        """The student's named features that it reads."""

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> SampleValues:
        """Return values (B,) by name, `loss` among them; labels are int64 (B,) or shares of the classes (B, K)."""


def make_gradients(
    model: nn.Module,
    objective: TrainingObjective,
    answer_names: Sequence[str],
    settings: Training,
    device: torch.device,
    steps: int,
) -> GradientFunction:
    """Build the gradient function; `answer_names` are those of the teacher's tensors, `steps` decides whether to compile.

    With several processes it runs the model on this process's share of a batch, and computes the gradients and values of the
    whole batch. Raises InputError as `wrap_ddp` does.
    """
    bf16 = uses_bf16(settings.precision, device)
    student = WithFeatures(model, objective.features)  # type: ignore[arg-type]
    two_views, several = STRONG_PIXELS in answer_names, distributed.world_size() > 1
    answer = PerProcessRandom() if several else _answer

    def forward(pixels: Tensor, labels: Tensor, *teacher: Tensor) -> SampleValues:
        given = dict(zip(answer_names, teacher, strict=True))
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            found = answer(student, pixels)
            if two_views:
                # A forward pass each, as in MLKD's and CRLD's code: batch norm sees one kind of views at a time.
                found = found | {f"{STRONG}logits": answer(model, given.pop(STRONG_PIXELS))}
        if several:
            found = gather_answers(found, len(labels))
        values = objective(found, labels, given)
        return values | {"top1": (found["logits"].detach().argmax(dim=-1) == main_class(labels)).float()}

    if several:
        return partial(_gradients, wrap_ddp(forward, student, objective, settings))  # type: ignore[arg-type]
    gradients: GradientFunction = partial(_gradients, forward)
    modules: list[nn.Module] = [model, objective]  # type: ignore[list-item]
    if should_compile(settings, device, steps):
        fast = partial(_gradients, compiled(forward))
        gradients = CompiledWithFallback(fast, gradients, modules, required=settings.compile is True)
    # Deterministic runs stay eager: a replayed graph is not checked for non-deterministic kernels.
    return CudaGraphFunction(gradients, modules) if device.type == "cuda" and not settings.deterministic else gradients


def _answer(model: Callable[[Tensor], T], pixels: Tensor) -> T:
    return model(pixels)


def _gradients(
    forward: Callable[..., SampleValues], pixels: Tensor, labels: Tensor, share: Tensor, *teacher: Tensor
) -> SampleValues:
    values = forward(pixels, labels, *teacher)
    (values["loss"].mean() * share).backward()  # type: ignore[no-untyped-call]
    return {name: value.detach() for name, value in values.items()}


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether to train in bf16; `auto` does if the hardware multiplies it natively."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported()


class CudaGraphFunction:
    """A function of tensors as a CUDA graph: its kernels are launched at once, without Python between them.

    The first `EAGER_CALLS` calls run eagerly; then the function is captured for the shapes of the first call and replayed on
    copies of its inputs. Inputs of other shapes run eagerly. Gradients must stay in place between calls
    (`zero_grad(set_to_none=False)`). A function that cannot be captured, since it waits for the GPU for example, or that draws
    random numbers on the CPU, runs eagerly throughout, after a warning; a failed attempt's changes to `modules` and to torch's
    random state are undone.
    """

    def __init__(
        self, function: GradientFunction, modules: Sequence[nn.Module], recorder: "Recorder | None" = None
    ) -> None:
        self.function, self.recorder = function, recorder or CudaRecorder()
        self.modules = nn.ModuleList(modules)
        self.calls = 0
        self.inputs: list[Tensor] = []
        self.replay: Callable[[], SampleValues] | None = None
        self.eager = False

    def __call__(self, *inputs: Tensor) -> SampleValues:
        """Return the function's values, in tensors that the next call may overwrite."""
        if not self.inputs:
            self.inputs = [one.clone() for one in inputs]
        if self.eager or [one.shape for one in inputs] != [one.shape for one in self.inputs]:
            return self.function(*inputs)
        if self.calls < EAGER_CALLS:
            self.calls += 1
            before = host_random_state(inputs[0].device)
            values = self.recorder.warm_up(lambda: self.function(*inputs))
            # The first calls may compile; the last one does what would be captured.
            if self.calls == EAGER_CALLS and host_random_state(inputs[0].device) != before:
                log.warning(
                    "a training step draws random numbers on the CPU, which a CUDA graph would repeat in every step; training "
                    "continues without one, which is slower (docs/how-to/own-model.md)"
                )
                self.eager = True
            return values
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self.replay = self.replay or self._captured()
        return self.replay() if self.replay else self.function(*inputs)

    def _captured(self) -> Callable[[], SampleValues] | None:
        """Return the replay; None if the function cannot be captured."""
        undo = saved_state(self.modules, self.inputs[0].device)
        try:
            return self.recorder.capture(lambda: self.function(*self.inputs))
        except RuntimeError as error:
            log.warning(
                f"a training step cannot be captured as a CUDA graph: {_cause(error)}; training continues without it, "
                "which is slower (docs/how-to/own-model.md)"
            )
        undo()
        self.eager = True
        return None


def host_random_state(device: torch.device) -> tuple[object, ...]:
    """The random state of Python and NumPy and, beside a GPU, of torch on the CPU: what a graph of that device would freeze."""
    _, words, *place = np.random.get_state()  # noqa: NPY002
    own = () if device.type == "cpu" else (torch.get_rng_state().numpy().tobytes(),)
    return random.getstate(), np.asarray(words).tobytes(), *place, *own


def _cause(error: BaseException) -> str:
    """Describe the first error of a failed capture, with its place in the user's code; ending the capture raises others."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{first_line(error)}{place(error)}"


def _leave_capture() -> None:
    """Give the current GPU's generator a state of its own: after a failed capture, older torch keeps it as one of the graph."""
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    generator.graphsafe_set_state(torch.Generator(generator.device).graphsafe_get_state())


class Recorder(Protocol):
    """Captures a function without arguments after warming it up."""

    def warm_up(self, function: Callable[[], SampleValues]) -> SampleValues:
        """Run a function that will be captured."""

    def capture(self, function: Callable[[], SampleValues]) -> Callable[[], SampleValues]:
        """Record the function; return a callable that replays the record on the same memory and returns the values there.

        Raises RuntimeError for a function that cannot be recorded.
        """


class CudaRecorder:
    """CUDA graphs on the current device."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def warm_up(self, function: Callable[[], SampleValues]) -> SampleValues:
        """Run on a side stream: the default stream cannot be captured, and libraries allocate per stream."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            values = function()
        torch.cuda.current_stream().wait_stream(self.stream)
        for value in values.values():
            value.record_stream(torch.cuda.current_stream())
        return values

    def capture(self, function: Callable[[], SampleValues]) -> Callable[[], SampleValues]:
        """Record the kernels without running them; another thread may copy the next epoch's answers meanwhile."""
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context returns to the current stream after a failed capture; torch before 2.15 does not.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
            ):
                values = function()
        except RuntimeError:
            _leave_capture()
            raise

        def replay() -> SampleValues:
            graph.replay()
            return values

        return replay

"""On a machine that cannot compile, `compile: auto` trains eagerly with a one-line warning, and `compile: true` is refused."""

import errno
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from prepkd.errors import InputError
from prepkd.training import step
from prepkd.training.compilation import CACHE_VARIABLE, WORTH_COMPILING, should_compile
from small_training import fit, same, settings, timeless
from torch import Tensor, nn


@pytest.mark.parametrize(
    ("asked", "device", "steps", "found"),
    [
        ("auto", "cuda", WORTH_COMPILING, True),
        ("auto", "cuda", WORTH_COMPILING - 1, False),
        ("auto", "cpu", 10 * WORTH_COMPILING, False),
        (True, "cpu", 1, True),
        (False, "cuda", 10 * WORTH_COMPILING, False),
    ],
)
def test_auto_compiles_on_a_gpu_for_enough_steps(asked: Any, device: str, steps: int, found: bool) -> None:
    assert should_compile(settings(compile=asked), torch.device(device), steps) is found


class Wrecked(torch.autograd.Function):
    """The identity, whose backward pass cannot be compiled."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        raise RuntimeError("Failed to compile.\n\nOutput:\nmain.cpp:1: fatal error: Python.h: No such file\nAnd more.")


def wrecked_forward(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
    def run(*inputs: Tensor) -> Any:
        function(*inputs)  # it fails after batch norm's statistics and dropout's random state have changed
        raise OSError("failed to map segment from shared object")

    return run


def wrecked_backward(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
    def run(*inputs: Tensor) -> Any:
        values = function(*inputs)
        return values | {"loss": Wrecked.apply(values["loss"])}  # type: ignore[no-untyped-call]

    return run


def model() -> nn.Module:
    """Build a model with batch norm and dropout: both change state in a forward pass."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 4)
        )


@pytest.mark.parametrize("compile_with", [wrecked_forward, wrecked_backward])
def test_auto_trains_as_if_it_had_not_tried(
    compile_with: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    weights, history = fit(tmp_path / "eager.pt", settings(), model=model())
    monkeypatch.setattr(torch, "compile", compile_with)
    monkeypatch.setattr(step, "should_compile", lambda *_: True)  # as on a GPU
    torch.manual_seed(1)
    again, rows = fit(tmp_path / "run.pt", settings(), model=model())
    assert same(again, weights) and timeless(rows) == timeless(history)
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "it is tried once"
    line = caplog.messages[0]
    assert line.startswith("compile is auto, and torch.compile fails: ") and line.endswith(
        "training continues without it"
    )
    found = {wrecked_forward: "OSError: failed to map segment from shared object"}
    missing = "RuntimeError: Failed to compile. main.cpp:1: fatal error: Python.h: No such file"
    assert f"fails: {found.get(compile_with, missing)}; " in line


def test_a_compiler_that_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Compile for real, with a compiler that fails and an empty cache."""
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    # inductor's own patch: monkeypatch would delete `compile_threads`, whose default is computed.
    with inductor.patch({"cpp.cxx": ("/bin/false",), "compile_threads": 1}):
        with pytest.raises(InputError) as caught:
            fit(tmp_path / "true.pt", settings(compile=True, epochs=1))
        assert str(caught.value).startswith("compile is true, and torch.compile fails: ")
        assert str(caught.value).endswith("; install a C++ compiler, or set compile: false")
        assert "\n" not in str(caught.value)
        monkeypatch.setattr(step, "should_compile", lambda *_: True)
        weights, _ = fit(tmp_path / "auto.pt", settings(epochs=1))
    monkeypatch.undo()
    assert same(weights, fit(tmp_path / "eager.pt", settings(epochs=1))[0])
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("prepkd")]
    assert len(ours) == 1 and "No working C++ compiler found" in ours[0]
    torch._dynamo.reset()


def test_a_compiler_without_pythons_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A real compiler fails only on Python.h, as on a machine without the interpreter's headers."""
    import torch._inductor.config as inductor

    if (real := shutil.which("c++") or shutil.which("g++")) is None:
        pytest.skip("no C++ compiler")
    wrapper = tmp_path / "c++"
    wrapper.write_text(
        '#!/bin/sh\nfor one in "$@"; do case "$one" in *.cpp) if grep -q "Python.h" "$one"; then\n'
        'echo "$one:3:10: fatal error: Python.h: No such file or directory" >&2; exit 1; fi;; esac; done\n'
        f'exec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    torch._dynamo.reset()
    with inductor.patch({"cpp.cxx": (str(wrapper),), "cpp.simdlen": 1, "compile_threads": 1}):
        with pytest.raises(InputError) as caught:
            fit(tmp_path / "true.pt", settings(compile=True, epochs=1))
        assert "fatal error: Python.h: No such file" in str(caught.value) and "\n" not in str(caught.value)
        monkeypatch.setattr(step, "should_compile", lambda *_: True)
        weights, _ = fit(tmp_path / "auto.pt", settings(epochs=1))
    monkeypatch.undo()
    assert same(weights, fit(tmp_path / "eager.pt", settings(epochs=1))[0])
    (ours,) = [record.getMessage() for record in caplog.records if record.name.startswith("prepkd")]
    assert "fatal error: Python.h" in ours and ours.endswith("; training continues without it")
    torch._dynamo.reset()


# Errors of the loader and the system for libraries in a folder mounted noexec, and without a free thread.
NOEXEC = "/tmp/torchinductor/main.so: failed to map segment from shared object"
FAULTS = [
    OSError(NOEXEC),
    ImportError(NOEXEC),
    PermissionError(errno.EACCES, "Permission denied", "/tmp/triton/launcher.so"),
    RuntimeError("can't start new thread"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    subprocess.CalledProcessError(1, ["c++", "main.cpp"]),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_machine_that_cannot_load_what_it_compiled(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unloadable(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
        def run(*inputs: Tensor) -> Any:
            function(*inputs)
            raise fault

        return run

    weights, _ = fit(tmp_path / "eager.pt", settings(epochs=1))
    monkeypatch.setattr(torch, "compile", unloadable)
    with pytest.raises(InputError) as caught:
        fit(tmp_path / "true.pt", settings(compile=True, epochs=1))
    assert str(fault).splitlines()[0] in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setattr(step, "should_compile", lambda *_: True)
    assert same(fit(tmp_path / "auto.pt", settings(epochs=1))[0], weights)
    (line,) = caplog.messages
    assert str(fault) in line and line.endswith("; training continues without it")


def test_a_cache_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """PyTorch creates the folder when it imports its compiler, which every optimiser does."""
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file/x")
    said = f"{CACHE_VARIABLE} is {folder!r}, which can't be made: Not a directory; "
    monkeypatch.setenv(CACHE_VARIABLE, folder)
    with pytest.raises(InputError) as caught:
        fit(tmp_path / "true.pt", settings(compile=True, epochs=1))
    assert str(caught.value) == said + "set it to a folder that can be written, or unset it"
    assert len(fit(tmp_path / "auto.pt", settings(epochs=1))[1]) == 1
    assert caplog.messages == [said + "a temporary folder takes its place"]
    assert Path(os.environ[CACHE_VARIABLE]).is_dir()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "new/cache"))
    fit(tmp_path / "fine.pt", settings(epochs=1))
    assert (tmp_path / "new/cache").is_dir() and len(caplog.messages) == 1


def test_an_import_that_fails_is_the_compilers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ImportError("no compiler")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(InputError, match=r"compile is true, and torch.compile fails: ImportError: no compiler;"):
        fit(tmp_path / "true.pt", settings(compile=True, epochs=1))
    monkeypatch.setattr(step, "should_compile", lambda *_: True)
    fit(tmp_path / "auto.pt", settings(epochs=1))
    assert caplog.messages == [
        "compile is auto, and torch.compile fails: ImportError: no compiler; training continues without it"
    ]


def test_an_error_of_the_training_itself_is_not_the_compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
        def run(*inputs: Tensor) -> Any:
            raise InputError("a feature that the model lacks")

        return run

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(InputError, match="a feature that the model lacks"):
        fit(tmp_path / "run.pt", settings(compile=True))

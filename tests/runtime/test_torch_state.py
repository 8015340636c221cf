"""torch's global state is as before once the work is done, and no other GPU is asked for its own."""

import contextlib
from typing import Any

import pytest
import torch
from prepkd.runtime.torch_state import arithmetic, deterministic_kernels, fork_rng
from torch import Tensor

CPU = torch.device("cpu")


def test_draws_inside_do_not_change_those_outside() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with fork_rng(CPU):
        torch.rand(5)
    assert torch.equal(torch.rand(3), expected)


def test_no_gpu_is_asked_for_work_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's default asks all GPUs, and warns on a machine with several (warnings are errors in tests)."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with fork_rng(CPU):
        torch.rand(1)


def test_one_gpus_random_state_returns_and_no_other_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs, each of which has a number for its random state."""
    asked, states = [], {torch.device("cuda", index): torch.tensor(index) for index in range(2)}

    class TwoGpus:
        @staticmethod
        def get_rng_state(device: torch.device) -> Tensor:
            asked.append(device)
            return states[device].clone()

        @staticmethod
        def set_rng_state(state: Tensor, device: torch.device) -> None:
            asked.append(device)
            states[device] = state

    second = torch.device("cuda", 1)
    monkeypatch.setattr(torch, "get_device_module", lambda kind: TwoGpus)
    with pytest.raises(KeyError), fork_rng(second):
        states[second] += 5
        raise KeyError
    assert [int(state) for state in states.values()] == [0, 1]
    assert set(asked) == {second}


@pytest.mark.parametrize("warn_only", [False, True])
def test_the_users_choice_of_kernels_returns_after_a_fault(warn_only: bool) -> None:
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        for wanted in (False, True):
            with pytest.raises(KeyError), deterministic_kernels(wanted):
                assert torch.are_deterministic_algorithms_enabled() == wanted
                assert not torch.is_deterministic_algorithms_warn_only_enabled()
                raise KeyError
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    finally:
        torch.use_deterministic_algorithms(False)


def test_arithmetic_is_put_back() -> None:
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for precision, expected in {"tf32": "tf32", "ieee": "ieee", "bf16": "ieee"}.items():
        with contextlib.suppress(RuntimeError), arithmetic(precision, CPU):
            assert [backend.fp32_precision for backend in backends] == [expected] * 2
            assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
            raise RuntimeError
        assert [backend.fp32_precision for backend in backends] == before

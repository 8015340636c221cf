"""torch's global state is as before once the work is done, and no other GPU is asked for its own."""

import contextlib
from typing import Any

import pytest
import torch
from prepkd.runtime.torch_state import arithmetic, deterministic_kernels, float32_precision, fork_rng
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


def tf32_switches() -> tuple[bool, bool]:
    """The older switches, which torch refuses to read if the newer ones contradict them."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_arithmetic_is_put_back() -> None:
    before = tf32_switches()
    assert before == (False, True), "torch's defaults differ from one another"
    for precision, expected in {"tf32": True, "ieee": False, "bf16": False}.items():
        with contextlib.suppress(RuntimeError), arithmetic(precision, CPU):
            assert tf32_switches() == (expected, expected)
            assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
            with torch.backends.cudnn.flags(enabled=False):  # as in a user's model
                raise RuntimeError
        assert tf32_switches() == before


def test_a_users_switches_are_put_back_whichever_they_set() -> None:
    convolution: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    try:
        torch.set_float32_matmul_precision("high")
        with float32_precision("ieee"):
            assert tf32_switches() == (False, False)
        assert torch.get_float32_matmul_precision() == "high"
        convolution.fp32_precision = "ieee"  # which leaves cudnn.rnn, and torch refuses to read allow_tf32
        with float32_precision("tf32"):
            assert tf32_switches() == (True, True)
        assert convolution.fp32_precision != "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True

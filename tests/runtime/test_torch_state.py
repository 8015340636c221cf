"""torch's global state is as before once the work is done, and no other GPU is asked for its own."""

import contextlib

import pytest
import torch
from prepkd.runtime.torch_state import deterministic_kernels, fork_rng

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


def test_a_gpu_is_asked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: asked.append(devices) or contextlib.nullcontext())
    with fork_rng(torch.device("cuda", 1)):
        pass
    assert asked == [[torch.device("cuda", 1)]]


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

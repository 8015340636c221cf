"""The processes of one command: those that torchrun or `devices` started, else one."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from prepkd.errors import InputError, one_line
from prepkd.runtime.rank import NotMainProcess, rank_and_world_size

# The longest wait for another process to join or to take part in an operation. Only the first process writes checkpoints,
# reports to loggers and, between two students, predicts the test set: all of these take minutes at most.
LIMIT = timedelta(minutes=30)
# The first process may wait for the lock of another command, which trains as long as it likes.
PATIENCE = timedelta(days=30)
_behind_locks: ContextVar[dist.ProcessGroup | None] = ContextVar("_behind_locks", default=None)


def rendezvous_prefix() -> str:
    """A store prefix for this start of the processes, distinct from earlier starts under the same launcher.

    Without `--rdzv-backend c10d`, torchrun keeps one store when it restarts killed processes: the new ones would find the
    addresses of the dead ones and wait for them. Each node counts its own restarts, so several nodes use one fixed prefix;
    there c10d, which starts a new store each time, is the only backend that restarts all nodes.
    """
    alone = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    return f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0) if alone else 0}"


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes of the command for collective operations.

    Raises InputError if joining fails, and if a process does not take part in an operation within LIMIT.
    """
    rank, world = rank_and_world_size()
    if world == 1:
        yield
        return
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, _, _ = next(rendezvous("env://", rank, world, timeout=LIMIT))
        dist.init_process_group(
            backend, store=PrefixStore(rendezvous_prefix(), store), rank=rank, world_size=world, timeout=LIMIT
        )
        patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"{world} processes can't be joined: {one_line(error)}; start them with torchrun, or set devices"
        ) from None
    token = _behind_locks.set(cast(dist.ProcessGroup, patient))  # not NON_GROUP_MEMBER: it has all processes
    try:
        yield
    except RuntimeError as error:
        if "Timed out waiting" not in str(error):  # gloo's words; NCCL ends the process itself, with a message
            raise
        raise InputError(
            f"process {rank} waited {LIMIT.total_seconds() / 60:g} minutes for another one, which hangs; end all processes, "
            "then run the same command again to continue"
        ) from None
    finally:
        _behind_locks.reset(token)
        dist.destroy_process_group()


def world_size() -> int:
    """The number of joined processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this is the first process, which writes the command's outputs."""
    return rank() == 0


def exit_unless_main_process() -> None:
    """Raise NotMainProcess in every process but the first."""
    if not is_main_process():
        raise NotMainProcess


def patient_barrier() -> None:
    """Wait until every process has reached this call, for as long as the first one waits for a lock."""
    if world_size() > 1:
        dist.barrier(_behind_locks.get())


def rank_slices(total: int) -> list[slice]:
    """Split `total` items into consecutive slices, one per process; their lengths differ by at most one.

    >>> rank_slices(5)
    [slice(0, 5, None)]
    """
    world = world_size()
    return [slice(total * one // world, total * (one + 1) // world) for one in range(world)]


def rank_slice(total: int) -> slice:
    """This process's slice of `total` items; empty for some processes if there are fewer items than processes."""
    return rank_slices(total)[rank()]


def all_gather(own: Tensor, lengths: Sequence[int]) -> Tensor:
    """Gather the rows of all processes in rank order: own rows (n, ...) -> (sum(lengths), ...); `lengths` has every process's n.

    The gradient of a process's own rows is `world_size()` times the gradient of those rows in the result: every process computes
    the same loss from all rows, and DistributedDataParallel averages over the processes.
    """
    if world_size() == 1:
        return own
    found: Tensor = _Gathered.apply(own, tuple(lengths))
    return found


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, lengths: tuple[int, ...]) -> Tensor:
        ctx.lengths = lengths
        longest = max(lengths)
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own
        all_rows = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(all_rows, padded)
        return torch.cat([rows[:length] for rows, length in zip(all_rows, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.split(gradient, ctx.lengths)[rank()] * world_size(), None


def all_reduce_sum(own: Tensor) -> Tensor:
    """Sum the tensors of all processes, which have one shape; the gradient is summed over the processes too."""
    total: Tensor = _Summed.apply(own)
    return total


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def mean_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace floating-point tensors by their mean over the processes, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor /= world_size()


def broadcast_bytes(content: bytes, device: torch.device) -> bytes:
    """Broadcast the first process's bytes to every process."""
    if world_size() == 1:
        return content
    length = torch.tensor([len(content)], device=device)
    dist.broadcast(length, src=0)
    sent = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(device) if is_main_process() and content else None
    received = torch.empty(int(length), dtype=torch.uint8, device=device) if sent is None else sent
    dist.broadcast(received, src=0)
    return received.cpu().numpy().tobytes()


@contextlib.contextmanager
def lock_in_main_process(lock: Callable[[], AbstractContextManager[Path]], folder: Path) -> Iterator[Path]:
    """Hold a folder's lock in the first process; every process continues once it is held."""
    with lock() if is_main_process() else contextlib.nullcontext(folder) as held:
        patient_barrier()
        yield held

"""The rank of this process and the number of processes, as set by a launcher such as torchrun."""

import os

from prepkd.errors import InputError


class NotMainProcess(Exception):
    """Raised in a process that has done its share; the first process writes the results."""


def is_launched() -> bool:
    """Whether a launcher started this process: RANK and WORLD_SIZE are set."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and the number of processes, from RANK and WORLD_SIZE; (0, 1) without a launcher.

    Raises InputError unless they are numbers with 0 <= RANK < WORLD_SIZE.
    """
    if not is_launched():
        return 0, 1
    rank, world = os.environ["RANK"], os.environ["WORLD_SIZE"]
    if not all(one.isdecimal() and len(one) < 8 for one in (rank, world)) or int(rank) >= int(world):
        raise InputError(f"RANK is {rank!r} and WORLD_SIZE {world!r}; expected 0 <= RANK < WORLD_SIZE")
    return int(rank), int(world)

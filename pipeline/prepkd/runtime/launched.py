"""The process as its launcher, such as torchrun, numbered it."""

import os

from prepkd.errors import InputError


class Finished(Exception):
    """This process has done its share; the first one writes the results."""


def is_launched() -> bool:
    """Whether a launcher started this process, with a number among others."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launched() -> tuple[int, int]:
    """The rank of this process and the number of processes, as the launcher wrote them to RANK and WORLD_SIZE; else (0, 1).

    Raises InputError for anything but numbers.
    """
    if not is_launched():
        return 0, 1
    rank, world = os.environ["RANK"], os.environ["WORLD_SIZE"]
    if not all(one.isdecimal() and len(one) < 8 for one in (rank, world)) or int(rank) >= int(world):
        raise InputError(f"RANK is {rank!r} and WORLD_SIZE {world!r}; expected 0 <= RANK < WORLD_SIZE")
    return int(rank), int(world)

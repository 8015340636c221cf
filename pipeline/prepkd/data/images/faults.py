"""Collect the faults of many files and report them together."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from prepkd.errors import InputError

SHOWN = 10


class Faults:
    """The number of faults below a folder, and the first ten of them."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, fault: str) -> None:
        """Count a fault."""
        self.count += 1
        if self.count <= SHOWN:
            self._first.append(fault)

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Add an InputError that ends the block."""
        try:
            yield
        except InputError as error:
            self.add(str(error))

    def refuse(self, root: Path) -> None:
        """Raise an InputError that lists the faults, if there are any."""
        if self.count == 1:
            raise InputError(self._first[0])
        if self.count:
            shown = f", the first {SHOWN} of them" if self.count > SHOWN else ""
            raise InputError(f"{root}: {self.count:,} faults{shown}:", *(f"  {fault}" for fault in self._first))

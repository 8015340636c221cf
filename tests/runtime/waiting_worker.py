"""`python waiting_worker.py FOLDER`: one of two processes, the first of which waits for a lock, and the second then hangs."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from prepkd.errors import InputError
from prepkd.runtime import distributed


def wait_for(*files: Path) -> None:
    """Wait until all files exist."""
    while not all(file.exists() for file in files):
        time.sleep(0.01)


@contextmanager
def slow_lock(folder: Path) -> Iterator[Path]:
    """A lock that another command holds for longer than LIMIT."""
    time.sleep(2 * distributed.LIMIT.total_seconds())
    yield folder


def main(folder: Path) -> None:
    """Wait behind a lock, then for a process that hangs; print what happened."""
    rank, _ = distributed.rank_and_world_size()
    (folder / f"imported{rank}").touch()
    wait_for(folder / "imported0", folder / "imported1")
    distributed.LIMIT = timedelta(seconds=4)
    try:
        with distributed.process_group():
            with distributed.lock_in_main_process(lambda: slow_lock(folder), folder):
                print("locked", flush=True)
            if rank == 1:
                wait_for(folder / "ended0")
                return
            distributed.mean_over_processes([torch.ones(1)])
    except InputError as error:
        print(error)
    finally:
        (folder / f"ended{rank}").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Two processes write one store, each half of its chunks; as a script: `python two_writers.py FOLDER` prints JSON.

First both write their half and a third process finishes. Then one of them is killed; the other is refused by `finish`,
takes over the rest and finishes.
"""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from fault_injection import commits, ended, finished, fork
from prepkd.errors import InputError
from store_writing import LABELS, LAYOUT, answer, contents, open_writer, write

CHUNKS = [(view, chunk) for view in range(LAYOUT.plan.views) for chunk in range(LAYOUT.chunks)]


def write_half(folder: Path, half: int, *, last: int | None = None) -> None:
    """Write every other chunk; after `last` of them, wait to be killed."""
    writer = open_writer(folder)
    for done, (view, chunk) in enumerate(CHUNKS[half::2]):
        if done == last:
            time.sleep(600)
        writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))


def take_over(folder: Path, report: Path) -> None:
    """Try to finish; after the refusal, write the chunks that are left."""
    writer = open_writer(folder)
    try:
        writer.finish(LABELS)
    except InputError as error:
        report.write_text(str(error))
    write(folder)


def main(root: Path) -> None:
    """Run both trials."""
    together, alone, whole = root / "together", root / "alone", root / "whole"
    for folder in (together, alone):  # one process writes the descriptions first
        assert ended(fork(partial(open_writer, folder))) == 0
    assert ended(fork(partial(write, whole))) == 0

    halves = [fork(partial(write_half, together, half)) for half in (0, 1)]
    report = {"both wrote": [ended(child) for child in halves], "chunks": commits(together)}
    before = finished(together, LAYOUT)
    report["third finished"] = ended(fork(partial(write, together)))
    report["redone"] = finished(together, LAYOUT) != before
    report["equal"] = contents(together) == contents(whole)

    killed = fork(partial(write_half, alone, 0, last=2))
    other = fork(partial(write_half, alone, 1))
    assert ended(other) == 0
    while commits(alone) < 2 + len(CHUNKS[1::2]):
        time.sleep(0.001)
    os.kill(killed, signal.SIGKILL)
    assert ended(killed) == -signal.SIGKILL
    before = finished(alone, LAYOUT)
    report["taken over"] = ended(fork(partial(take_over, alone, root / "refusal")))
    report["refusal"] = (root / "refusal").read_text()
    after = finished(alone, LAYOUT)
    report["redone after the kill"] = [file for file, state in before.items() if after[file] != state]
    report["equal after the kill"] = contents(alone) == contents(whole)
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""`prepkd distill` in a process whose memory is limited far below the size of its data; prints bytes in MB as JSON.

    python -m benchmarks._bounded LIMIT_MB OPTIONS OF PREPKD DISTILL

The limit is on private memory (RLIMIT_DATA), beside what libraries take when they are imported: the prepared file is mapped,
and its pages are the system's to keep or to drop.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from prepkd.cli import main
from prepkd.stages import _teaching

from benchmarks._measure import peak_memory

MB = 1_000_000


def limit(size: int) -> int:
    """Have no more than `size` bytes beside what is reserved now; how many are held now."""
    libraries()
    most = private("VmData") + size
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    return private("RssAnon")


def libraries() -> None:
    """Import what the stage will need."""
    import dvclive.live  # noqa: F401
    import prepkd.store
    import prepkd.training.student  # noqa: F401
    import torch
    import torchvision.transforms.v2  # noqa: F401

    torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)  # imports torch._dynamo


def watch(found: dict[str, int]) -> None:
    """Have the training loop note how many samples it saw, and the most memory that was held after a step."""
    from prepkd.training import loop as train

    make = train.make_gradients

    def make_gradients(*arguments: Any) -> Any:
        gradients = make(*arguments)

        def run(*batch: Any) -> Any:
            values = gradients(*batch)
            found["images"] += len(batch[0])
            found["peak"] = max(found["peak"], private("RssAnon") - found["start"])
            return values

        return run

    train.make_gradients = make_gradients


def private(field: str) -> int:
    """Bytes of this process's private memory: reserved (VmData) or held (RssAnon)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:")))


if __name__ == "__main__":
    size = int(sys.argv.pop(1)) * MB
    found = {"data": 0, "images": 0, "peak": 0}
    read = _teaching.read_dataset

    def limited(*arguments: Any) -> Any:
        found["start"] = limit(size)
        watch(found)
        dataset, inputs = read(*arguments)
        found["data"] = dataset.samples.images.content.nbytes  # type: ignore[union-attr]
        return dataset, inputs

    _teaching.read_dataset = limited
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    sizes = {"data": found["data"], "limit": size, "peak": found["peak"], "rss": peak_memory()["own"]}
    print(json.dumps({"images": found["images"]} | {name: value / MB for name, value in sizes.items()}))

"""Write or read a large synthetic store under a limit of private memory; print seconds, bytes and the peak as JSON.

    python -m benchmarks._large write FOLDER '{"samples": 1281167, "classes": 1000, "views": 3, "encoding": "topk"}' BYTES

The limit is BYTES beyond the memory reserved after a store of one sample was written and read.
"""

import json
import sys
import time
from pathlib import Path

import torch
from prepkd.runtime.allocator import keep_freed_memory
from prepkd.runtime.prefetch import prefetch
from prepkd.store import LogitStore
from prepkd.teacher.cached import CachedTeacher

from benchmarks._limit import limit
from benchmarks._process import bytes_read, forget_peak, status
from benchmarks._scale import SyntheticStore

CHUNK = 65_536  # samples, as cache.chunk by default


def main(mode: str, folder: Path, size: dict[str, object], most: int) -> None:
    """Set the limit and write all views, or read each as training does."""
    torch.set_num_threads(1)
    keep_freed_memory()
    small = SyntheticStore(**size | {"samples": 1, "views": 1}, chunk=CHUNK)  # type: ignore[arg-type]
    small.write(folder / f"{mode}.zarr")
    assert len(list(epochs(folder / f"{mode}.zarr"))) == 1
    limit(most)
    start, read, began = forget_peak(), bytes_read(), time.perf_counter()
    if mode == "write":
        SyntheticStore(**size, chunk=CHUNK).write(folder / "large.zarr")  # type: ignore[arg-type]
        seconds = [time.perf_counter() - began]
    else:
        seconds = []
        for _ in epochs(folder / "large.zarr"):
            seconds.append(time.perf_counter() - began)
    found = {"seconds": seconds, "peak": status("VmHWM") - start, "limit": most, "read": bytes_read() - read}
    print(json.dumps(found))


def epochs(path: Path):  # type: ignore[no-untyped-def]
    """Return the decoded answers of a store's views in order; the next view is prefetched, as in training."""
    store = LogitStore.open(path)
    teacher = CachedTeacher(store, torch.device("cpu"), resident=False, resident_gib=0)
    return prefetch(map(teacher, range(store.views)), teacher.prefetch_depth)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4]))

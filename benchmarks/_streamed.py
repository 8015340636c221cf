"""Read all views of a store with training's prefetch, under a memory limit far below its size; print JSON, sizes in MB.

    python -m benchmarks._streamed SMALL.zarr LARGE.zarr LIMIT_MB

The limit is set after reading the small store, when libraries are loaded and threads started.
"""

import json
import sys
from collections.abc import Iterator

import torch
from prepkd.models.features import Answers
from prepkd.runtime.allocator import keep_freed_memory
from prepkd.runtime.prefetch import prefetch
from prepkd.store import LogitStore
from prepkd.teacher.cached import CachedTeacher

from benchmarks._limit import MB, limit, private
from benchmarks._measure import peak_memory


def main(small: str, large: str, megabytes: int) -> None:
    """Read the small store, set the limit, read the large store."""
    torch.set_num_threads(1)
    keep_freed_memory()
    assert len(list(slabs(small))) == LogitStore.open(small).views
    before = limit(megabytes * MB)
    peak = views = 0
    for _ in slabs(large):
        views += 1
        peak = max(peak, private("RssAnon") - before)
    store = LogitStore.open(large)
    assert views == store.views
    found = {"data": store.nbytes / MB, "views": views, "limit": megabytes, "peak": peak / MB}
    print(json.dumps(found | {"rss": peak_memory()["own"] / MB}))


def slabs(url: str) -> Iterator[Answers]:
    """Return a store's views in order, prefetched as in training."""
    store = LogitStore.open(url)
    teacher = CachedTeacher(store, torch.device("cpu"), resident=False, resident_gib=0)
    return prefetch(map(teacher, range(store.views)), teacher.prefetch_depth)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

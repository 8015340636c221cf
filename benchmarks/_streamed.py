"""All views of a store, one slab ahead as training takes them, under a limit of memory far below its size; prints bytes in MB.

    python -m benchmarks._streamed SMALL.zarr LARGE.zarr LIMIT_MB

The limit is on private memory (RLIMIT_DATA), taken after the small store was read: the libraries and their threads are there.
"""

import json
import resource
import sys
from collections.abc import Iterator

import torch
from prepkd.runtime.allocator import keep_freed_memory
from prepkd.runtime.prefetch import prefetch
from prepkd.store import LogitStore
from prepkd.store.encodings import Answers
from prepkd.teacher.answers import CachedTeacher

from benchmarks._bounded import MB, private
from benchmarks._measure import peak_memory


def main(small: str, large: str, limit: int) -> None:
    """Read the small store, take the limit, go through the large one."""
    torch.set_num_threads(1)
    keep_freed_memory()
    assert len(list(slabs(small))) == LogitStore.open(small).views
    start = private("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (start + limit * MB, start + limit * MB))
    before = private("RssAnon")
    peak = views = 0
    for _ in slabs(large):
        views += 1
        peak = max(peak, private("RssAnon") - before)
    store = LogitStore.open(large)
    assert views == store.views
    found = {"data": store.nbytes / MB, "views": views, "limit": limit, "peak": peak / MB}
    print(json.dumps(found | {"rss": peak_memory()["own"] / MB}))


def slabs(url: str) -> Iterator[Answers]:
    """A store's views as training takes them, epoch after epoch."""
    store = LogitStore.open(url)
    teacher = CachedTeacher(store, torch.device("cpu"), resident=False, resident_gib=0)
    return prefetch(map(teacher, range(store.views)), teacher.prefetch_depth)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

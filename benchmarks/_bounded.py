"""An epoch over encoded images in a process whose memory is limited far below their size; prints bytes in MB as JSON.

    python -m benchmarks._bounded PREPARED.h5 BATCH_SIZE LIMIT_MB

The limit is on private memory (RLIMIT_DATA): the prepared file is mapped, and its pages are the system's to keep or to drop.
"""

import io
import json
import resource
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from prepkd.allocator import keep_freed_memory
from prepkd.data import EncodedImages, describe, load_split
from prepkd.feed import Epoch, batches
from prepkd.samples import Samples
from prepkd.views import ViewPlan
from prepkd.views.order import sample_order

from benchmarks._measure import peak_memory

MB = 1_000_000
RECIPE = [{"resized-crop": {"size": 64}}, "flip"]


def main(prepared: Path, size: int, limit: int) -> None:
    """Take the limit, open the data, go through a whole epoch."""
    torch.set_num_threads(1)
    keep_freed_memory()
    count = describe(prepared).splits["train"]
    warm_up()
    start = private("VmData")  # the libraries are here, nothing of the data is
    resource.setrlimit(resource.RLIMIT_DATA, (start + limit * MB, start + limit * MB))
    before = private("RssAnon")
    split = load_split(prepared, "train")
    plan = ViewPlan(RECIPE, 1, 0, count)
    samples = Samples.of(split, torch.device("cpu"), plan.recipe)
    epoch = Epoch(torch.from_numpy(sample_order(0, 0, count)), torch.from_numpy(plan.parameters(0)), None)
    peak = seen = 0
    for pixels, *_ in batches(samples, plan, epoch, size, size, 1000):
        seen += len(pixels)
        peak = max(peak, private("RssAnon") - before)
    assert seen == count
    data = len(split.images.content) / MB  # type: ignore[union-attr]
    print(
        json.dumps({"data": data, "images": count, "limit": limit, "peak": peak / MB, "rss": peak_memory()["own"] / MB})
    )


def warm_up() -> None:
    """Import what rendering needs, and start its threads once: an epoch over one made-up image."""
    stream = io.BytesIO()
    Image.new("RGB", (100, 100)).save(stream, "PNG")
    content = np.frombuffer(stream.getvalue(), np.uint8)
    images = EncodedImages(content, np.array([0, len(content)]), np.array([b"one"]))
    plan, samples = ViewPlan(RECIPE, 1, 0, 1), Samples(images, torch.zeros(1, dtype=torch.int64), 64)
    list(batches(samples, plan, Epoch(torch.zeros(1, dtype=torch.int64), torch.zeros(1, 5).long(), None), 1, 1, 2))


def private(field: str) -> int:
    """Bytes of this process's private memory: reserved (VmData) or held (RssAnon)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

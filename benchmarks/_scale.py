"""One synthetic store, written and read view by view, in a process of its own; prints seconds and bytes as JSON.

python -m benchmarks._scale '{"samples": 2000, "views": 2, "classes": 10}' FOLDER
"""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from prepkd.runtime.allocator import keep_freed_memory
from prepkd.store import LogitStore
from prepkd.store.attributes import Attributes
from prepkd.store.encodings import make_encoding
from prepkd.store.layout import Layout, chunk_length
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.teacher.answers import CachedTeacher
from prepkd.views import ViewPlan
from torch import Tensor

from benchmarks._measure import peak_memory

CHUNK = 8_192  # samples: memory must not depend on how many a view has while it is written


def main(samples: int, views: int, classes: int, folder: Path) -> None:
    """Write all views of made-up answers, read each as training reads it."""
    keep_freed_memory()
    path = folder / "scale.zarr"
    made = Made(samples, views, classes)
    start = peak_memory()["own"]

    began = time.perf_counter()
    made.write(path)
    written = time.perf_counter()
    teacher = CachedTeacher(LogitStore.open(path), torch.device("cpu"), resident=False, resident_gib=0)
    for view in range(views):
        answers = teacher(view)
        assert answers["logits"].shape == (samples, classes)
    read = time.perf_counter()
    found = {
        "write": written - began,
        "read": read - written,
        "memory": peak_memory()["own"] - start,
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    }
    shutil.rmtree(path)
    print(json.dumps(found))


class Made:
    """Made-up answers to views of so many samples, the same to every chunk of them."""

    def __init__(self, samples: int, views: int, classes: int) -> None:
        self.plan, self.encoding = ViewPlan(["flip"], views, 0, samples), make_encoding({"name": "f16"}, classes)
        self.raw = torch.randn(CHUNK, classes, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(samples) % classes
        self.encoding.encode(self.raw[:1], self.labels[:1])  # what is imported late is here now

    def write(self, path: Path) -> None:
        """Write them as a store."""
        layout = Layout(self.plan, self.encoding, chunk_length(self.plan.samples, CHUNK, 256))
        described = attributes(self.plan, self.encoding.describe(), self.encoding.classes)
        writer = StoreWriter(open_place(path, write=True), layout, described, path)
        for view, chunk in writer.pending():
            writer.write(view, chunk, self.answers(layout.slice(chunk)))
        writer.finish(self.labels.numpy())

    def answers(self, part: slice) -> dict[str, Tensor]:
        """A chunk's encoded answers."""
        return self.encoding.encode(self.raw[: part.stop - part.start], self.labels[part])


def attributes(plan: ViewPlan, encoding: dict[str, object], classes: int) -> Attributes:
    """Attributes of a store that no teacher made."""
    from prepkd.data.samples.samples import Samples
    from prepkd.teacher.caching import describe_pixels

    images = torch.zeros(plan.samples, 1, 1, 1, dtype=torch.uint8)
    sections = {
        "dataset": {"name": "made-up", "fingerprint": "0" * 64, "split_fingerprint": "0" * 64, "classes": classes},
        "split": "train",
        "teacher": {"name": "made-up", "model": "none", "weights_fingerprint": "0" * 64, "preprocessing": {}},
        "views": plan.describe(),
        "pixels": describe_pixels(plan, Samples(images, torch.from_numpy(np.zeros(plan.samples, np.int64)))),
        "encoding": encoding,
        "precision": {"arithmetic": "ieee", "batch_size": 256, "device": "cpu"},
    }
    measured = {"bytes_per_row": 0.0, "kl_mean": {}, "kl_max": {}, "argmax_flips": 0}
    return Attributes.made_from(sections, measured=measured)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]), folder=Path(sys.argv[2]))

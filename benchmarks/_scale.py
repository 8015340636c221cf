"""Write one synthetic store and read it view by view, in a separate process; print seconds and bytes as JSON.

python -m benchmarks._scale '{"samples": 2000, "views": 2, "classes": 10}' FOLDER
"""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from prepkd.data.samples.samples import Samples
from prepkd.runtime.allocator import keep_freed_memory
from prepkd.store import LogitStore
from prepkd.store.attributes import Attributes
from prepkd.store.encodings import encode_in_blocks, make_encoding
from prepkd.store.layout import Layout, chunk_length
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.teacher.cached import CachedTeacher
from prepkd.teacher.caching import describe_pixels
from prepkd.views import ViewPlan
from torch import Tensor

from benchmarks._measure import peak_memory

CHUNK = 8_192  # samples: memory while writing must not depend on the samples per view


def main(samples: int, views: int, classes: int, folder: Path) -> None:
    """Write all views of synthetic logits, then read each view as training does."""
    keep_freed_memory()
    path = folder / "scale.zarr"
    synthetic = SyntheticStore(samples, views, classes)
    start = peak_memory()["own"]

    began = time.perf_counter()
    synthetic.write(path)
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


class SyntheticStore:
    """A store of random logits; every chunk encodes the same rows again."""

    def __init__(self, samples: int, views: int, classes: int, encoding: str = "f16", chunk: int = CHUNK) -> None:
        self.plan, self.encoding = ViewPlan(["flip"], views, 0, samples), make_encoding({"name": encoding}, classes)
        self.layout = Layout(self.plan, self.encoding, chunk_length(samples, chunk, 256))
        self.raw = torch.randn(self.layout.chunk, classes, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(samples) % classes
        self.encoding.encode(self.raw[:1], self.labels[:1])  # trigger late imports before the memory is measured

    def write(self, path: Path) -> None:
        """Write the store."""
        layout = self.layout
        described = attributes(self.plan, self.encoding.describe(), self.encoding.classes)
        writer = StoreWriter(open_place(path, write=True), layout, described, path)
        for view, chunk in writer.pending():
            writer.write(view, chunk, self.answers(layout.slice(chunk)))
        writer.finish(self.labels.numpy())

    def answers(self, part: slice) -> dict[str, Tensor]:
        """Return a chunk's encoded logits."""
        return encode_in_blocks(self.encoding, self.raw[: part.stop - part.start], self.labels[part])


def attributes(plan: ViewPlan, encoding: dict[str, object], classes: int) -> Attributes:
    """Return the attributes of a synthetic store."""
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
    measured = {"bytes_per_row": 0.0, "rows": 0, "kl_mean": {}, "kl_max": {}, "argmax_flips": 0}
    return Attributes.made_from(sections, measured=measured)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]), folder=Path(sys.argv[2]))

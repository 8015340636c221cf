"""Size and error of each encoding on a teacher's own logits: bytes per (view, sample) on disk, KL, argmax flips."""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.store import LogitStore
from prepkd.store.encodings import as_tensors
from prepkd.store.encodings.measure import TAUS, added_divergence, argmax_flips
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.teacher.caching import FirstBatches, logit_encoding, plan_store
from prepkd.teacher.forward_pass import SampleViews, raw_logits, to_eval
from prepkd.teacher.settings import Cache
from torch import Tensor

from benchmarks._datasets import SEED, made_up, real
from benchmarks._measure import environment, report

CHOICES: dict[str, dict[str, Any]] = {
    "f16": {"encoding": "f16"},
    "u8": {"encoding": "u8"},
    "i16": {"encoding": "i16"},
    **{f"topk, k = {k}": {"encoding": "topk", "topk": {"k": k}} for k in (8, 16, 32)},
}
# Limits that each encoding must meet on CIFAR-100's teachers.
BARS = {
    "f16": {"argmax_flips": 0, "kl_mean_4": 5e-7},
    "u8": {"bytes_per_row": 112, "kl_mean_4": 2e-5},
    "i16": {"bytes_per_row": 134, "kl_max_4": 1e-5},
}
BATCH = 256


def main(arguments: list[str] | None = None) -> None:
    """Compute the teacher's logits, write and read them in each encoding, compare; print tables, write JSON."""
    options = parser().parse_args(arguments)
    if (options.data is None) != (options.teacher is None):
        raise SystemExit("--data and --teacher go together")
    torch.set_num_threads(options.threads)
    surroundings = environment()  # recorded first: the source tree may change while the teacher runs
    if options.data:
        teacher, dataset, named = real(options.data, options.teacher, options.views, options.samples)
    else:
        teacher, dataset, named = made_up("resnet20", (3, 32, 32), 100, options.views, options.samples or 5_120)
    started = time.perf_counter()
    raw = [live(to_eval(teacher), dataset, view) for view in range(dataset.plan.views)]
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        found = {
            choice: measure(Path(name) / f"{number}.zarr", dataset, raw, settings)
            for number, (choice, settings) in enumerate(CHOICES.items())
        }
    result = surroundings | {
        "command": "python -m benchmarks.encodings",
        **named,
        "precision": "ieee",
        "views": dataset.plan.views,
        "rows": sum(map(len, raw)),
        "teacher_seconds": seconds,
        "bars": BARS,
        "encodings": found,
    }
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.encodings", description=__doc__)
    found.add_argument("--data", type=Path, help="a prepared file; without it images and weights are made up")
    found.add_argument("--teacher", type=Path, help="its teacher's checkpoint")
    found.add_argument("--views", type=int, default=1)
    found.add_argument("--samples", type=int, help="number of training images, from the first; else all")
    found.add_argument("--threads", type=int, default=1, help="torch's CPU threads")
    found.add_argument("--folder", type=Path, help="where temporary stores go")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def live(teacher: torch.nn.Module, dataset: Dataset, view: int) -> Tensor:
    """Compute the teacher's raw logits (N, K) of a view."""
    return raw_logits(teacher, SampleViews.of(dataset, view, slice(None)), batch_size=BATCH, precision="ieee")


def measure(path: Path, dataset: Dataset, raw: list[Tensor], choice: dict[str, Any]) -> dict[str, Any]:
    """Write a store of the raw logits, one tensor per view, and compare them with the decoded store."""
    settings = Cache(views=dataset.plan.views, seed=SEED, batch_size=BATCH, **choice)
    encoding, labels = logit_encoding(settings, dataset.classes), dataset.samples.labels
    card = {"name": "bench", "model": "bench", "weights_fingerprint": "0" * 64, "preprocessing": {}}
    first = FirstBatches(raw[0][:BATCH], labels[:BATCH], 0.0)
    layout, attributes = plan_store(settings, dataset, card, first)
    writer = StoreWriter(open_place(path, write=True), layout, attributes, path)
    for view, chunk in writer.pending():
        part = layout.slice(chunk)
        writer.write(view, chunk, encoding.encode(raw[view][part], labels[part]))
    writer.finish(labels.numpy())
    store, rows = LogitStore.open(path), sum(map(len, raw))
    decoded = [encoding.decode(as_tensors(store.stored(view)))["logits"] for view in range(layout.plan.views)]
    files = {
        file.relative_to(path).as_posix(): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()
    }
    chunks = {name: sum(size for key, size in files.items() if key.startswith(f"{name}/c/")) for name in layout.fields}
    divergence = {
        tau: torch.cat([added_divergence(*pair, tau) for pair in zip(raw, decoded, strict=True)]) for tau in TAUS
    }
    return {
        "settings": encoding.describe(),
        "rows": rows,
        "bytes_per_row": sum(chunks.values()) / rows,
        "bytes_per_row_of_arrays": {name: size / rows for name, size in chunks.items()},
        "other_bytes": sum(files.values()) - sum(chunks.values()),  # descriptions, summary, manifest: once per store
        # Rounding can give -1e-17 for equal rows.
        "kl_mean": {str(tau): max(0.0, values.mean().item()) for tau, values in divergence.items()},
        "kl_max": {str(tau): max(0.0, values.max().item()) for tau, values in divergence.items()},
        "argmax_flips": sum(map(argmax_flips, raw, decoded)),
    }


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    encodings = result["encodings"].items()
    size = f"{result['rows']:,} rows; {result['images']}; {result['teacher']}"
    first = ("encoding", "bytes per (view, sample)", "argmax flips", *(f"mean KL, tau {tau}" for tau in TAUS))
    second = ("encoding", *(f"max KL, tau {tau}" for tau in TAUS))

    def divergences(found: dict[str, Any]) -> list[str]:
        return [f"{found[str(tau)]:.2g}" for tau in TAUS]

    costs = [
        [name, f"{found['bytes_per_row']:.1f}", str(found["argmax_flips"]), *divergences(found["kl_mean"])]
        for name, found in encodings
    ]
    return {size: (first, costs), "the worst row": (second, [[n, *divergences(f["kl_max"])] for n, f in encodings])}


if __name__ == "__main__":
    main()

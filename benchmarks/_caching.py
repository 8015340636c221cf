"""Time cache-logits against the bare teacher, over the same views."""

import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.models import Normalised
from prepkd.runtime.torch_state import arithmetic
from prepkd.store.destination import Destination
from prepkd.store.workers import Worker, join_workers
from prepkd.store.write_store import write_chunks
from prepkd.teacher.caching import first_batches, logit_encoding, plan_store, teacher_answers
from prepkd.teacher.forward_pass import to_eval
from prepkd.teacher.settings import Cache

from benchmarks._measure import against, interleaved, ratio

BATCH = 256


@dataclass
class Bare:
    """The teacher's forward pass over every view of a dataset, rendered batch by batch; its logits are dropped.

    `forward` collects the seconds of the forward passes alone, one number per call.
    """

    teacher: Normalised
    dataset: Dataset
    forward: list[float]

    @torch.inference_mode()
    def __call__(self, turn: int) -> None:
        """Run one pass over all views, with the store's batch shape, memory format and precision."""
        model, plan, images = to_eval(self.teacher), self.dataset.plan, self.dataset.samples.images
        spent = 0.0
        with arithmetic("ieee", images.device):
            for view in range(plan.views):
                for start in range(0, len(images), BATCH):
                    part = slice(start, min(start + BATCH, len(images)))
                    pixels = plan.render(images[part], torch.from_numpy(plan.parameters(view, part)))
                    if missing := BATCH - len(pixels):
                        pixels = torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])])
                    pixels = pixels.contiguous(memory_format=torch.channels_last)
                    started = time.perf_counter()
                    model(pixels)
                    spent += time.perf_counter() - started
        self.forward.append(spent)


def measure(
    teacher: Normalised, dataset: Dataset, named: dict[str, Any], folder: Path, rounds: int, read_seconds: float
) -> dict[str, Any]:
    """Measure the wall time of cache-logits (store's creation to publication) as a multiple of the bare teacher's."""
    started = time.perf_counter()
    settings = Cache(views=dataset.plan.views, batch_size=BATCH)
    card = {"name": "bench", "model": named["teacher"], "weights_fingerprint": "0" * 64, "preprocessing": {}}
    layout, attributes = plan_store(settings, dataset, card, first_batches(teacher, dataset, settings))
    startup = read_seconds + time.perf_counter() - started
    target, labels = folder / "bench.zarr", dataset.samples.labels.numpy()
    answers = partial(teacher_answers, teacher, dataset, logit_encoding(settings, dataset.classes), settings)

    def cache(turn: int) -> None:
        shutil.rmtree(target, ignore_errors=True)
        with join_workers(Destination(str(target), folder / "scratch", print), layout, attributes) as worker:
            assert isinstance(worker, Worker)
            for _ in write_chunks(worker, answers):
                pass
            worker.finish(labels)

    bare = Bare(teacher, dataset, [])
    seconds = interleaved({"bare teacher": bare, "cache-logits": cache}, rounds)
    forward = bare.forward[1:]  # without the warm-up round
    return {
        **named,
        "samples": dataset.plan.samples,
        "views": dataset.plan.views,
        "batch_size": BATCH,
        "precision": "ieee",
        "startup_seconds": startup,
        "cases": against("bare teacher", seconds, inverse=True),
        "of_forward_alone": ratio(seconds["cache-logits"], forward),
        "rendering_share": 1 - sum(forward) / sum(seconds["bare teacher"]),
    }

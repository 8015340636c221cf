"""Images per second of the teacher's pass over all views into a store, against its bare forward pass, on a device."""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from prepkd.runtime.allocator import keep_freed_memory
from prepkd.runtime.torch_state import arithmetic
from prepkd.store.destination import Destination
from prepkd.store.workers import Worker, join_workers
from prepkd.store.write_store import write_chunks
from prepkd.teacher.caching import first_batches, logit_encoding, plan_store, teacher_answers
from prepkd.teacher.forward_pass import to_eval
from prepkd.teacher.settings import Cache

from benchmarks._datasets import made_up
from benchmarks._measure import environment, interleaved, interval, median, ratio, report

BAR = 0.9
CIFAR_VIEWS, CIFAR_SAMPLES = 162, 50_000


def main(arguments: list[str] | None = None) -> None:
    """Measure both, print a table, write JSON."""
    options = parser().parse_args(arguments)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cpu":
        keep_freed_memory()
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "folder")}
    result = environment() | {"command": "python -m benchmarks.teacher_pass", "settings": settings, "bar": BAR}
    result["device"] = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        result |= measure(Path(name), options, device)
    report(result, tables(result), options.out)


def parser() -> argparse.ArgumentParser:
    """The options; small `--samples` and `--views` shorten a run."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.teacher_pass", description=__doc__)
    found.add_argument("--model", default="resnet32x4")
    found.add_argument("--samples", type=int, default=CIFAR_SAMPLES)
    found.add_argument("--views", type=int, default=2)
    found.add_argument("--batch-size", type=int, default=512)
    found.add_argument("--precision", choices=("ieee", "tf32", "bf16"), default="ieee")
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--device", help="cpu or cuda; else a GPU if available")
    found.add_argument("--folder", type=Path, help="where temporary files go")
    found.add_argument("--out", type=Path, help="a JSON file; else JSON goes to standard output")
    return found


def measure(folder: Path, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Measure images per second of the bare forward pass and of caching, and the seconds for all of CIFAR-100."""
    model, dataset, named = made_up(options.model, (3, 32, 32), 100, options.views, options.samples, device)
    settings = Cache(views=options.views, batch_size=options.batch_size, precision=options.precision)
    card = {"name": "bench", "model": options.model, "weights_fingerprint": "0" * 64, "preprocessing": {}}
    layout, attributes = plan_store(settings, dataset, card, first_batches(model, dataset, settings))
    pixels = torch.rand(options.batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    teacher = to_eval(model)
    answers = partial(teacher_answers, model, dataset, logit_encoding(settings, dataset.classes), settings)

    @torch.inference_mode()
    def bare(turn: int) -> None:
        with arithmetic(options.precision, device):
            for _ in range(options.views * -(-options.samples // options.batch_size)):
                teacher(pixels)
        if device.type == "cuda":
            torch.cuda.synchronize()

    def written(turn: int) -> None:
        path = folder / f"{turn}.zarr"
        with join_workers(Destination(str(path), folder / "scratch", print), layout, attributes) as worker:
            assert isinstance(worker, Worker)
            for _ in write_chunks(worker, answers):
                pass
            worker.finish(dataset.labels)

    seconds = interleaved({"bare forward": bare, "cache-logits": written}, options.rounds)
    images = options.samples * options.views
    speed = images / median(seconds["cache-logits"])
    return {
        **named,
        "images_per_second": {name: images / median(times) for name, times in seconds.items()},
        "ratio": ratio(seconds["bare forward"], seconds["cache-logits"]),
        "all_cifar100_views_seconds": CIFAR_VIEWS * CIFAR_SAMPLES / speed,
    }


def tables(result: dict[str, Any]) -> dict[str, Any]:
    """Title -> header and rows."""
    settings, speeds = result["settings"], result["images_per_second"]
    rows = [[name, f"{speed:,.0f}", ""] for name, speed in speeds.items()]
    rows[-1][-1] = f"{interval(result['ratio'])}, to reach {result['bar']}"
    title = (
        f"{settings['model']}, {settings['precision']}, {settings['samples']:,} images x {settings['views']} views; "
        f"all {CIFAR_VIEWS} views of CIFAR-100 at this speed: {result['all_cifar100_views_seconds']:,.0f} s"
    )
    return {title: (("the teacher's pass", "images/s", "share of the bare forward's speed (95 % interval)"), rows)}


if __name__ == "__main__":
    main()

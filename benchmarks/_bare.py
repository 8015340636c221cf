"""A script without prepkd around it: a student and an optimiser, stepping on one batch of pixels that is always there.

python -m benchmarks._bare STUDENT BATCH_SIZE SAMPLES EPOCHS THREADS PRECISION; prints JSON: when its first step, each of its
epochs and itself were over, in seconds since 1970. Without epochs it steps once.
"""

import json
import sys
import time

import torch
from prepkd.models import build_model
from torch.nn import functional as F

CLASSES = 100


def main(
    student: str, batch_size: int, samples: int, epochs: int, threads: int, precision: str
) -> dict[str, list[float]]:
    """Step as often as so many epochs of so many samples take."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(student, CLASSES).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True, fused=True)
    pixels = torch.rand(batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch_size, device=device) % CLASSES
    able = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    bf16 = precision == "bf16" or (precision == "auto" and able)
    times: dict[str, list[float]] = {"first step": [], "epochs": []}
    for _ in range(max(1, epochs)):
        for _ in range(-(-samples // batch_size) if epochs else 1):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = model(pixels)
            F.cross_entropy(logits.float(), labels).backward()
            if not times["first step"]:
                times["first step"].append(time.time())
            optimizer.step()
            optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times["epochs"].append(time.time())
    return times | {"end": [time.time()]}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:6]), sys.argv[6])))

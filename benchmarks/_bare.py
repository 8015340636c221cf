"""A training script without prepkd's pipeline: a student and an optimiser step on one batch of pixels in memory.

python -m benchmarks._bare STUDENT BATCH_SIZE SAMPLES EPOCHS THREADS PRECISION; the student, from `benchmarks._timed`, records
the times.
"""

import sys

import torch
from prepkd import build_model
from torch.nn import functional as F

CLASSES = 100


def main(student: str, batch_size: int, samples: int, epochs: int, threads: int, precision: str) -> None:
    """Run the steps of `epochs` epochs of `samples` samples."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(student, CLASSES).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, fused=True)
    pixels = torch.rand(batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch_size, device=device) % CLASSES
    able = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    bf16 = precision == "bf16" or (precision == "auto" and able)
    for _ in range(epochs):
        model.train()
        for _ in range(-(-samples // batch_size)):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = model(pixels)
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]), sys.argv[6])

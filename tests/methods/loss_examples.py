"""Examples for the losses' functions."""

import torch
from torch import Tensor


def example(samples: int, classes: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher logits in float64, and labels; the teacher is right for every other sample."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, samples, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (samples,), generator=generator)
    labels[1::2] = teacher.argmax(-1)[1::2]
    labels[::2] = torch.where(labels == teacher.argmax(-1), (labels + 1) % classes, labels)[::2]
    return student, teacher, labels


def close(values: Tensor, expected: object, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(
        values, torch.tensor(expected, dtype=torch.float64), rtol=tolerance, atol=tolerance, check_dtype=True
    )

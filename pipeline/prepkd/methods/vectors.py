"""Vectors of a batch: unit length without unbounded gradients at zeros, and the pairs of student and teacher."""

import torch
from torch import Tensor

from prepkd.errors import InputError
from prepkd.methods.kl import upcast

ZERO = 1e-12  # a vector without a larger entry counts as zeros


def unit(vectors: Tensor) -> Tensor:
    """Scale vectors (..., D) to length 1, in float32 or better; zeros stay zeros, with gradient 0.

    The usual tiny constant in the denominator would multiply the gradient at zeros by its inverse.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    vectors = upcast(vectors)
    largest = vectors.detach().abs().amax(-1, keepdim=True)
    zero = largest <= ZERO
    # The largest entry becomes 1 first, so that no square over- or underflows; a constant factor has no gradient.
    scaled = torch.where(zero, 0.0, vectors / torch.where(zero, 1.0, largest))
    return scaled * scaled.square().sum(-1, keepdim=True).clamp_min(1.0).rsqrt()


def scaled(vectors: Tensor) -> Tensor:
    """Divide a batch of vectors by its largest entry, taken as a constant, for losses that no common scale changes."""
    largest = vectors.detach().abs().amax()
    return vectors / torch.where(largest <= ZERO, 1.0, largest)


def paired_vectors(student: Tensor, teacher: Tensor, loss: str, least: int) -> tuple[Tensor, Tensor]:
    """Return both models' features of a batch as vectors (B, D), in float32 or better; the teacher's carry no gradient.

    Raises InputError for unequal numbers of samples, and for fewer than `least`.
    """
    if not len(student) == len(teacher) >= least:
        found = f"{len(student)} of the student and {len(teacher)} of the teacher"
        raise InputError(f"{loss} compares samples with each other; expected the same {least} or more, found {found}")
    return upcast(student).flatten(1), upcast(teacher.detach()).flatten(1)

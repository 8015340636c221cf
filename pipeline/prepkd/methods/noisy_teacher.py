"""Noisy teachers: in each epoch a random share of the teacher's answers is perturbed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from prepkd.errors import InputError
from prepkd.methods.kl import upcast
from prepkd.methods.term import Perturbation, State
from prepkd.runtime.streams import DrawContext, Purpose, bernoulli, normal, raw_words

ROWS = 2**16  # samples drawn at once


def noisy_logits(teacher_logits: Tensor, noise: Tensor) -> Tensor:
    """t (1 + noise) for raw logits and noise (B, K); a row without noise stays as it is.

    Depends on the logits' shift, so `teacher_logits` must be raw.
    Source: Sau, Balasubramanian 2016, arXiv 1610.09650.
    """
    if teacher_logits.shape != noise.shape:
        found = f"logits {tuple(teacher_logits.shape)} and noise {tuple(noise.shape)}"
        raise InputError(f"noisy_logits: {found}; expected the same shape")
    return upcast(teacher_logits) * (1 + upcast(noise))


class NoisyTeacher(Perturbation):
    """Multiply the logits of a random share of the samples by 1 + noise, anew in each epoch."""

    name = "noisy-teacher"
    section = "noisy_teacher"
    source = "Sau, Balasubramanian 2016, arXiv 1610.09650"
    equation = "t' = t (1 + b xi),  b = 1 with probability share, else 0,  xi_k ~ N(0, sigma^2)"
    needs_raw = True
    drawn = ("answer_noise",)
    sigma: float = Field(default=0.1, ge=0, le=100, description="standard deviation of the noise")
    share: float = Field(default=0.5, ge=0, le=1, description="share of the samples whose answers get noise")

    def draw(self, at: DrawContext) -> dict[str, NDArray[Any]]:
        """b sigma xi, float16 (N, K): per sample one word for b, then one per four classes."""
        width = 1 + -(-at.classes // 4)
        noise = np.empty((at.samples, at.classes), dtype=np.float16)
        for first in range(0, at.samples, ROWS):
            rows = noise[first : first + ROWS]
            stream = Purpose.NOISY_ANSWERS.stream(at.epoch)
            words = raw_words(at.seed, stream, first * width, len(rows) * width).reshape(-1, width)
            chosen = bernoulli(words[:, :1], self.share)
            rows[:] = self.sigma * chosen * normal(words[:, 1:])[:, : at.classes]
        return {"answer_noise": noise}

    def perturb(self, teacher_logits: Tensor, state: State) -> Tensor:
        """Raw logits with this epoch's noise."""
        return noisy_logits(teacher_logits, state.drawn["answer_noise"])

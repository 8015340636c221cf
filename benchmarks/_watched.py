"""A zoo model that reports its training; `prepkd distill` trains it as a user's own model, `package.module:factory`."""

import os
from typing import Any, ClassVar

from torch import Tensor, nn

TRIALS = "TRIALS"  # environment variable: the number of models that prepkd first builds only for trial batches


class Watched(nn.Module):
    """Calls `epoch_begins`, `step_begins` and `gradients_exist` in training; in evaluation mode it only runs the model.

    A CUDA graph replays steps without Python: then only epochs, the first steps and steps of another shape are reported.
    """

    built: ClassVar[int] = 0

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        Watched.built += 1
        self.reports = Watched.built > int(os.environ.get(TRIALS, "0"))
        self.model = model
        # The backward pass ends with the first layer's gradient. Any, because torch does not type the hook's method.
        first: Any = next(model.parameters())
        if self.reports:
            first.register_post_accumulate_grad_hook(lambda weight: self.gradients_exist())

    def train(self, mode: bool = True) -> "Watched":
        """Set the mode; the training loop calls this at the start of every epoch."""
        if mode and self.reports:
            self.epoch_begins()
        super().train(mode)
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """The model's logits (B, K)."""
        if self.training and self.reports:
            self.step_begins(pixels)
        logits: Tensor = self.model(pixels)
        return logits

    def epoch_begins(self) -> None:
        """Called when the model is set to training mode."""

    def step_begins(self, pixels: Tensor) -> None:
        """Called before a forward pass of training."""

    def gradients_exist(self) -> None:
        """Called at the end of a backward pass."""

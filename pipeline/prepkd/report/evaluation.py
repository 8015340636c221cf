"""The data and the device of an evaluation."""

from dataclasses import dataclass
from pathlib import Path

import torch

from prepkd.views import Recipe


@dataclass(frozen=True)
class Evaluation:
    """The prepared data on which students are measured, the recipe that determines the pictures' size, and the device."""

    data: Path
    recipe: Recipe
    device: torch.device

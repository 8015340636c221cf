"""The section `prepare` of params.yaml."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from prepkd.settings.section import FilePath, Section, Seed


class Prepare(Section):
    """Which data, and how much of it."""

    dataset: Literal["digits", "cifar10", "cifar100", "cinic10", "tiny-imagenet", "folder", "h5"]
    raw: FilePath = Path("data/raw")
    mixed_formats: bool = False
    val_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    subset: int | None = Field(default=None, ge=1)
    seed: Seed = 0

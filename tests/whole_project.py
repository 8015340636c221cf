"""A project in which every stage has run."""

import shutil
from functools import partial
from pathlib import Path

import commands
import pytest
from commands import ROOT, enter

SETTINGS = dict(
    prepare__subset=12,
    teachers__large__model="convnet4",
    teachers__large__epochs=1,
    distill__student="convnet4",
    distill__epochs=1,
    distill__seeds=2,
    compare__runs="[kd]",
    compare__students="[convnet4]",
)
prepkd = partial(commands.prepkd, **SETTINGS)


def make(folder: Path) -> Path:
    """Run every stage in `folder` and return it."""
    shutil.copy(ROOT / "params.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        for stage in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"], ["distill"], ["evaluate"]):
            prepkd(*stage)
        prepkd("compare", "--run", "kd")
        prepkd("compare")
    return folder

"""A project whose store has made-up logits, imported: for tests that need no teacher."""

from pathlib import Path

import commands
import elsewhere_files as files
import numpy as np
import pytest
import torch
from prepkd.data.prepared.file import load_split
from prepkd.data.sources import SOURCES
from torch.nn.functional import one_hot


def enter_imported_project(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Change to a project with the digits and a store of all views: the one-hot labels with noise."""
    commands.enter(folder, patch)
    (folder / "params.yaml").write_text((commands.ROOT / "params.yaml").read_text())
    data = files.write_data(folder / "data/digits.h5", SOURCES["digits"].read(Path()))
    labels = torch.from_numpy(load_split(data, "train").labels)
    noise = torch.randn(9, len(labels), 10, generator=torch.Generator().manual_seed(0))
    np.save("made-up.npy", (6 * one_hot(labels, 10) + noise / 2).numpy())
    commands.prepkd("import", "made-up.npy", "large", "--views", "all", "--recipe", '[{"crop": {"padding": 1}}]')
    return folder

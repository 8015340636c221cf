"""Fixtures: a small settings file."""

from pathlib import Path

import pytest
from small_params import SMALL


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(SMALL)
    return path

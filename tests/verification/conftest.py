"""A project with stores to verify."""

import shutil
from pathlib import Path

import pytest
from commands import ROOT, enter
from verified_stores import ENCODINGS, prepkd


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create digits, a teacher, and its store in each encoding; no settings file."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(ROOT / "params.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        prepkd("prepare")
        prepkd("train-teacher", "large")
        for encoding in ENCODINGS:
            prepkd("cache-logits", "large", cache__encoding=encoding, cache__root=encoding)
    (folder / "params.yaml").unlink()
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(shutil.copytree(finished, tmp_path / "project"), monkeypatch)

"""The commands of docs/how-to/sharing.md for folders and buckets, in order; docs/test_sharing_dvc.py runs those of DVC."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from commands import ROOT, enter
from prepkd.cli import app
from prepkd.store import LogitStore
from store_checks import files
from store_writing import contents

PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 10}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet4, epochs: 1, precision: float32}}
cache: {views: all, batch_size: 64}
distill: {teacher: large, student: convnet4, seeds: 1, epochs: 1, precision: float32}
compare: {runs: [kd]}
"""


def commands(*sections: str) -> list[list[str]]:
    """Return the arguments of every `prepkd` command in these sections."""
    parts = dict(part.split("\n", 1) for part in (ROOT / "docs/how-to/sharing.md").read_text().split("\n## ")[1:])
    blocks = [block for name in sections for block in re.findall(r"^```bash\n(.*?)^```", parts[name], re.M | re.S)]
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    assert all(line[0] == "prepkd" for line in lines)
    return [line[1:] for line in lines]


def test_documented_commands(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    (tmp_path / "params.yaml").write_text(PARAMS)
    local = tmp_path / "data/logits/large.zarr"

    def run(*arguments: str) -> None:
        arguments = tuple(text.replace("/mnt/shared", str(tmp_path / "shared")) for text in arguments)
        assert app(arguments, standalone_mode=False) is None, arguments

    for stage in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"]):
        run(*stage)
    whole = contents(local)
    shutil.move(local, tmp_path / "shared" / "large.zarr")

    for arguments in commands("A folder", "A bucket"):
        run(*arguments)
    assert contents(local) == whole
    assert files(f"{s3}/logits/large.zarr") == files(f"{s3}/copies/large.zarr") == whole
    assert (tmp_path / "models/student/seed0/model.safetensors").is_file()

    shutil.rmtree(local)
    first, second = commands("Some of the views")
    run(*first)
    assert LogitStore.open(local).present == [0, 1, 2, 3]
    run(*second)
    assert LogitStore.open(local).present == [0, 1, 2, 3, 4, 6, 7]

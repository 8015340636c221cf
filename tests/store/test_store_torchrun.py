"""docs/how-to/caching-on-a-cluster.md, run as printed: the stores equal those of a single process."""

import re
import shutil
from pathlib import Path

import pytest
from commands import ROOT, edit_params, run
from prepkd.cli import app
from store_writing import contents

PAGE = ROOT / "docs/how-to/caching-on-a-cluster.md"


def test_the_pages_commands_write_the_stores_of_one_process(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchrun, by_hand = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert torchrun.startswith("torchrun --nproc-per-node 2 -m prepkd cache-logits") and by_hand.count("prepkd") == 2
    here = shutil.copytree(project, tmp_path / "here")
    edit_params(here, lambda params: params["cache"].update(features=["pooled"]))
    monkeypatch.chdir(here)
    monkeypatch.setenv("PREPKD_SCRATCH", str(tmp_path / "scratch"))
    shutil.rmtree(here / "data/logits", ignore_errors=True)
    for command in ("cache-logits", "cache-features"):
        app([command, "large"], standalone_mode=False)
    alone = contents(here / "data/logits"), contents(here / "data/features")
    for name in ("logits", "features"):
        shutil.rmtree(here / "data" / name)
    said = run(torchrun, here, PREPKD_SCRATCH=str(tmp_path / "scratch"))
    assert len(re.findall("sha256 of its manifest", said)) == 1, "only the first process reports"
    said = run(by_hand, here, PREPKD_SCRATCH=str(tmp_path / "scratch"))
    written = [int(count) for count in re.findall(r"pooled.zarr: (\d+) chunks written", said)]
    assert sum(written) == 9 * 7 or (sorted(written) == [9 * 7] and "already finished" in said)
    assert (contents(here / "data/logits"), contents(here / "data/features")) == alone
    assert not list((tmp_path / "scratch").iterdir())

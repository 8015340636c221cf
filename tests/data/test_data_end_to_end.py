"""Each source from its raw files to a measured student, with the settings that `prepkd init` makes, shrunk."""

import json
import os
from pathlib import Path

import commands
import h5py
import numpy as np
import pytest
from commands import enter, prepkd
from crafted_images import cinic10, folder, tiny_imagenet
from prepkd.data.prepared.file import describe

SHRUNK = (
    "teachers.teacher.model=convnet4",
    "teachers.teacher.epochs=2",
    "teachers.teacher.milestones=[1]",
    "distill.student=convnet4",
    "distill.epochs=2",
    "distill.milestones=[1]",
    "distill.seeds=1",
    "cache.views=2",
)


def weights() -> str:
    return str(json.loads(Path("models/student/seed0/model.json").read_text())["weights_fingerprint"])


def measured(dataset: str, *changes: str) -> float:
    """Run every stage and return the student's top-1; assert equal weights from the store and the live teacher."""
    options = [part for one in (*SHRUNK, *changes) for part in ("-S", one)]
    for stage in (["prepare"], ["train-teacher", "teacher"], ["cache-logits", "teacher"], ["gather"]):
        prepkd(*stage, *options)
    found = set()
    for source in ("online", "cached"):
        prepkd("distill", "--replace", "--source", source, *options)
        found.add(weights())
    assert len(found) == 1
    prepkd("evaluate", *options)
    return float(json.loads(Path("results/metrics.json").read_text())["top1"]["mean"])


def own_arrays(path: Path, count: int = 12) -> Path:
    """Write an HDF5 file of two classes, one dark and one light."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.Generator(np.random.Philox(0))
    with h5py.File(path, "w") as file:
        for split in ("train", "test"):
            labels = np.arange(count) % 2
            noise = generator.integers(100, size=(count, 16, 16))
            file[f"{split}/images"] = (noise + 150 * labels[:, None, None]).astype(np.uint8)
            file[f"{split}/labels"] = labels
        file["class_names"] = ["dark", "light"]
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(tmp_path, monkeypatch)


def test_cinic10(project: Path) -> None:
    prepkd("init", "--dataset", "cinic10", "--no-git")
    cinic10(project / "data/raw/cinic10")
    assert 0 <= measured("cinic10") <= 1
    assert describe(Path("data/cinic10.h5")).splits == {"train": 20, "val": 20, "test": 20}


def test_tiny_imagenet(project: Path) -> None:
    prepkd("init", "--dataset", "tiny-imagenet", "--no-git")
    tiny_imagenet(project / "data/raw/tiny-imagenet-200")
    assert 0 <= measured("tiny-imagenet") <= 1


def test_a_folder_of_images_of_several_sizes(project: Path) -> None:
    prepkd("init", "--dataset", "folder", "--no-git")
    folder(project / "data/raw/images", {"train": 6, "test": 3}, ((30, 40), (24, 24), (50, 20)))
    small = ("augment=[{resized-crop: {size: 24}}, flip]", "prepare.val_fraction=0.3")
    assert 0 <= measured("folder", *small) <= 1
    assert describe(Path("data/folder.h5")).encoded
    # A recipe without a resized crop can't show images of several sizes.
    said = prepkd("train-teacher", "teacher", "-S", "augment=[flip]", "-S", SHRUNK[0], code=2)
    assert "expected `augment` to start with a resized crop" in said


def test_own_arrays(project: Path) -> None:
    prepkd("init", "--dataset", "h5", "--no-git")
    own_arrays(project / "data/raw/images.h5", 40)
    easy = ("teachers.teacher.epochs=6", "distill.epochs=6", "teachers.teacher.batch_size=8", "distill.batch_size=8")
    assert measured("h5", *easy) > 0.9
    assert describe(Path("data/h5.h5")).class_names == ("dark", "light")


@pytest.mark.real
def test_real_tiny_imagenet(project: Path) -> None:
    raw = os.environ.get("PREPKD_TINY_IMAGENET")
    if not raw:
        pytest.skip("set PREPKD_TINY_IMAGENET to the folder that holds tiny-imagenet-200")
    prepkd("init", "--dataset", "tiny-imagenet", "--no-git", "--raw", raw)
    assert 0 <= measured("tiny-imagenet", "prepare.subset=2", "teachers.teacher.epochs=1", "distill.epochs=1") <= 1
    assert describe(Path("data/tiny-imagenet.h5")).splits == {"train": 400, "test": 400}


@pytest.mark.parametrize("dataset", ["h5", "folder"])
def test_dvc_follows_a_file_and_a_folder(dataset: str, tmp_path: Path) -> None:
    def shell(command: str) -> str:
        return commands.run(f"set -e\n{command}", project, HOME=str(tmp_path / "home"))

    project = tmp_path / "project"
    project.mkdir()
    raw = {"h5": "data/raw/images.h5", "folder": "data/raw/images"}[dataset]
    assert shell(f"prepkd init --dataset {dataset}").splitlines()[-1] == f"next: dvc add {raw} && dvc repro"
    if dataset == "h5":
        own_arrays(project / raw)
    else:
        folder(project / raw)
    output = shell(f"dvc add -q {raw} && dvc repro prepare")
    assert "'train':" in output
    if dataset == "h5":
        own_arrays(project / raw, 14)
    else:
        (project / raw / "train/ant/0.png").unlink()
    assert "Running stage 'prepare'" in shell(f"dvc add -q {raw} && dvc repro prepare")
    assert describe(project / f"data/{dataset}.h5").splits["train"] == {"h5": 14, "folder": 7}[dataset]

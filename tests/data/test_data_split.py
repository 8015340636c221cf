"""A flat folder of class folders, split into train, val and test."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke
from crafted_images import image, prepared, refusal, write
from prepkd.data.images.encoded import EncodedImages
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.sources.split import SplitShares, split_indices

CLASSES = {"bus": 20, "train": 10, "zoo": 5}  # `train` is a class of CIFAR-100
SHARES = {"val": 0.2, "test": 0.4}


def flat(root: Path, sizes: tuple[tuple[int, int], ...] = ((6, 8), (9, 5))) -> Path:
    files = {}
    for place, (name, count) in enumerate(CLASSES.items()):
        for i in range(count):
            files[f"{name}/{i:02}.png"] = image(100 * place + i, *sizes[i % len(sizes)])
    return write(root, files)


def names(path: Path) -> dict[str, list[str]]:
    found = {}
    for split in describe(path).splits:
        images = load_split(path, split).images
        assert isinstance(images, EncodedImages)
        found[split] = [str(images.name(i)) for i in range(len(images))]
    return found


def test_every_image_is_in_one_split_and_every_class_has_its_share(tmp_path: Path) -> None:
    raw = flat(tmp_path / "raw")
    path = prepared("folder", raw, tmp_path / "x.h5", split=SHARES)
    assert describe(path).class_names == tuple(CLASSES)
    found = names(path)
    assert sorted(name for part in found.values() for name in part) == sorted(
        str(one.relative_to(raw)) for one in raw.rglob("*.png")
    )
    for split, share in (("train", 0.4), ("val", 0.2), ("test", 0.4)):
        labels = load_split(path, split).labels
        assert np.bincount(labels).tolist() == [round(share * count) for count in CLASSES.values()], split
        assert [name.split("/")[0] for name in found[split]] == [[*CLASSES][label] for label in labels]
        assert found[split] == sorted(found[split]), "images keep their order"
    assert found["train"] != [f"bus/{i:02}.png" for i in range(8)], "the first ones are no draw"


def test_the_seed_and_the_shares_decide_the_fingerprint(tmp_path: Path) -> None:
    raw = flat(tmp_path / "raw", ((6, 8),))

    def fingerprint(**changes: Any) -> str:
        return describe(prepared("folder", raw, tmp_path / "x.h5", split=SHARES | changes)).fingerprint

    first = fingerprint()
    assert first == fingerprint() == fingerprint(seed=0)
    assert len({first, fingerprint(seed=1), fingerprint(test=0.2), fingerprint(val=0.0)}) == 4
    assert set(describe(tmp_path / "x.h5").splits) == {"train", "test"}, "a val only if it is asked for"


def test_the_draw_is_fixed() -> None:
    """Equal files, shares and seeds give equal splits on every machine; a change needs a new format version."""
    labels = np.repeat([0, 1], [10, 5])
    found = split_indices(labels, ["a", "b"], SplitShares(val=0.2, test=0.2, seed=7))
    assert {part: those.tolist() for part, those in found.items()} == GOLDEN
    more = split_indices(labels, ["a", "b"], SplitShares(test=0.4, seed=7))
    assert set(found["test"]) < set(more["test"]), "a smaller test is part of a larger one"


GOLDEN = {"train": [0, 2, 4, 5, 7, 8, 12, 13, 14], "val": [1, 9, 11], "test": [3, 6, 10]}


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        (
            {"val": 0.05, "test": 0.4},
            "prepare.split: class 'train' has 10 images and would have 6 in train and 4 in test and 0 in val; expected at",
        ),
        (
            {"test": 0.95},
            "prepare.split: class 'train' has 10 images and would have 0 in train and 10 in test; expected",
        ),
        (
            {"test": 0.09},
            "prepare.split: class 'zoo' has 5 images and would have 5 in train and 0 in test; expected at",
        ),
    ],
)
def test_a_class_with_too_few_images_is_refused(tmp_path: Path, shares: dict[str, float], says: str) -> None:
    assert says in refusal("folder", flat(tmp_path / "raw"), tmp_path / "out/x.h5", split=shares)


def test_a_folder_that_is_split_or_a_stray_file_is_refused(tmp_path: Path) -> None:
    raw = flat(tmp_path / "raw")
    (raw / "train").rename(raw / "tram")
    says = refusal("folder", raw, tmp_path / "out/x.h5")
    (raw / "tram").rename(raw / "train")
    assert says.endswith("a folder of class folders alone needs prepare.split, e.g. {val: 0.1, test: 0.1}"), says
    (raw / "notes.png").write_bytes(image(1))
    says = refusal("folder", raw, tmp_path / "out/x.h5", split=SHARES)
    assert f"{raw}/notes.png: a file outside the class folders; expected <class>/<image>; take it out" in says
    (raw / "notes.png").unlink()
    (raw / "test").mkdir()
    says = refusal("folder", raw, tmp_path / "out/x.h5", split=SHARES)
    assert says == f"{raw}: has train/ and test/, and prepare.split is set; expected null, or class folders"


def test_a_val_of_the_split_is_not_carved_again(tmp_path: Path) -> None:
    says = refusal("folder", flat(tmp_path / "raw"), tmp_path / "out/x.h5", split=SHARES, val_fraction=0.5)
    assert says == "prepare.val_fraction is 0.5: folder has its own val; expected 0"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["prepare.split.test=0"], "prepare.split.test is 0; expected > 0"),
        (["prepare.split={val: 0.1}"], "prepare.split.test is missing"),
        (
            ["prepare.split={val: 0.5, test: 0.5}"],
            "val 0.5 and test 0.5 leave nothing for train; expected a sum below 1",
        ),
        (
            ["prepare.split={test: 0.5}", "prepare.dataset=digits"],
            "error: params.yaml: prepare: split is set, and dataset 'digits' has a test set of its own; expected null",
        ),
    ],
)
def test_wrong_settings_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "prepare: {dataset: folder, raw: flat}\nteachers: {large: {model: convnet4, epochs: 1}}\ncache: {views: 1}\n"
        "augment: [{resized-crop: {size: 8}}]\n"
        "distill: {teacher: large, student: convnet4, epochs: 1, seeds: 1}\ncompare: {runs: [kd]}\n"
    )
    done = invoke("prepare", *(part for one in overrides for part in ("-S", one)))
    assert done.exit_code == 2 and says in done.output, done.output

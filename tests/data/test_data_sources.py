"""Sources: their names and settings, and the bundled digits."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prepkd.data.sources import SOURCES
from prepkd.data.sources.settings import Prepare
from prepkd.errors import InputError
from prepkd.settings.validation import validated


def test_digits_are_the_whole_file_split_evenly_by_class() -> None:
    from sklearn.datasets import load_digits

    data, bunch = SOURCES["digits"].read(Path("not-there")), load_digits()
    assert data.dataset == "digits"
    assert data.class_names == tuple("0123456789")
    assert data.train_images.shape == (901, 8, 8, 1)
    assert data.test_images.shape == (896, 8, 8, 1)
    assert data.train_images.dtype == np.uint8
    assert data.train_labels.dtype == np.int64
    # A naive reference: walk through the file and deal each class's samples alternately.
    dealt: dict[int, int] = dict.fromkeys(range(10), 0)
    expected: tuple[list[tuple[int, list[int]]], list[tuple[int, list[int]]]] = ([], [])
    for label, pixels in zip(bunch.target, bunch.data, strict=True):
        expected[dealt[label] % 2].append((label, [round(v * 255 / 16) for v in pixels]))
        dealt[label] += 1
    for (images, labels), rows in zip(
        ((data.train_images, data.train_labels), (data.test_images, data.test_labels)), expected, strict=True
    ):
        assert labels.tolist() == [label for label, _ in rows]
        assert images.reshape(-1, 64).tolist() == [pixels for _, pixels in rows]
    assert data.train_images.max() == 255  # 16 becomes white
    halves = [{image.tobytes() for image in images} for images in (data.train_images, data.test_images)]
    assert len(halves[0]) + len(halves[1]) == 1797  # no two digits are equal, so the halves can be told to be disjoint
    assert not halves[0] & halves[1]


def test_digits_need_no_download_and_unknown_names_are_refused(tmp_path: Path) -> None:
    SOURCES["digits"].download(tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    with pytest.raises(InputError, match=r"dataset is 'mnist'; expected .*digits.*cifar10.*cifar100"):
        validated(Prepare, {"dataset": "mnist"}, "params.yaml")


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_a_choice_with_settings_of_its_own(name: str) -> None:
    source = SOURCES[name]
    assert source.name == name
    assert type(source.settings).model_fields.keys() <= Prepare.model_fields.keys()
    assert Prepare(dataset=name).source == source, "the defaults of `prepare` are the source's"
    assert str(source.default_raw).startswith("data/raw")
    assert source.archive is None or source.own is None


def test_the_help_of_prepare_names_every_source() -> None:
    from prepkd.stages.prepare import prepare

    assert all(re.search(rf"\b{name}\b", str(prepare.__doc__)) for name in SOURCES)


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, prepkd.data; print({'torch', 'torchvision', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

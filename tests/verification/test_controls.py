"""Negative controls: each changes only the property in its name, and without a usable control there is no verdict."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.models import Normalised
from prepkd.verification.controls import CONTROLS, changed_rows
from prepkd.verification.query import Query
from verified_stores import changed_section, opened, query, rewritten, verified


def test_no_shuffled_sample_stays_in_its_place_however_often_it_was_drawn(finished: Path) -> None:
    store, _, _ = opened(finished)
    generator = np.random.Generator(np.random.Philox(0))
    for _ in range(50):
        chosen = generator.integers(0, 5, size=generator.integers(2, 12)).tolist()
        other = CONTROLS["shuffled index"](store, query(store, [0] * len(chosen), chosen))
        if 2 * max(map(chosen.count, chosen)) > len(chosen):
            assert other == "one sample is half of the draw"
            continue
        assert isinstance(other, Query)
        shown = other.image_indices.tolist()
        assert sorted(shown) == sorted(chosen) and all(a != b for a, b in zip(shown, chosen, strict=True))


def test_controls_change_what_they_say_and_nothing_else(finished: Path) -> None:
    store, _, _ = opened(finished)
    asked = query(store, [0, 3, 2], [7, 8, 9])
    flipped = CONTROLS["inverted flip"](store, asked)
    assert isinstance(flipped, Query)
    assert np.array_equal(flipped.parameters[:, :2], asked.parameters[:, :2])
    assert np.array_equal(flipped.parameters[:, 2] + asked.parameters[:, 2], [1, 1, 1])
    following = CONTROLS["neighbouring view"](store, asked)
    assert isinstance(following, Query)
    expected = [store.plan.parameters(view)[sample] for view, sample in ((1, 7), (0, 8), (3, 9))]
    assert np.array_equal(following.parameters, expected)
    assert following.image_indices is asked.image_indices and flipped.image_indices is asked.image_indices
    assert CONTROLS["wrong normalisation"](store, asked) == "the teacher takes pixels as they are"
    other = CONTROLS["wrong normalisation"](
        store, replace(asked, model=Normalised(torch.nn.Identity(), Preprocessing((0.2,), (0.5,))))
    )
    assert isinstance(other, Query)
    assert torch.equal(other.model(torch.full((1, 1, 2, 2), 0.7)), torch.full((1, 1, 2, 2), 0.7))


def test_only_rows_whose_pixels_change_count(finished: Path) -> None:
    store, _, _ = opened(finished)
    asked = query(store, [0, 0, 0], [0, 1, 0])
    asked.samples.images[2, 0, :, 0] = 9  # the only image whose mirror image differs, wherever it is cropped
    asked.samples.images[2, 0, :, 1] = 8
    asked = replace(asked, image_indices=np.array([2, 1, 0]))
    flipped = CONTROLS["inverted flip"](store, replace(asked, parameters=np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0]])))
    assert isinstance(flipped, Query)
    assert changed_rows(
        store, replace(asked, parameters=np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0]])), flipped
    ).tolist() == [
        True,
        False,
        False,
    ]


def test_no_control_means_no_verdict(finished: Path, tmp_path: Path) -> None:
    store, teacher, samples = opened(finished)
    black = Samples(torch.zeros_like(samples.images), samples.labels)
    teacher = Normalised(teacher.body, Preprocessing((0.0,), (1.0,)))
    with torch.no_grad():
        answer = teacher(torch.zeros(1, 1, 8, 8)).expand(store.samples, -1)
    encoded = store.encoding.encode(answer, samples.labels)
    made_of_black = rewritten(store, tmp_path / "black.zarr", lambda view, stored: encoded)
    replayed = verified(store, teacher, black, count=9, seed=0)["pixels"]["replayed"]
    made_of_black.attributes = changed_section(made_of_black, "pixels", sha256=replayed)
    report = verified(made_of_black, teacher, black, count=50, seed=0)
    assert report["controls"] == {} and set(report["not_applicable"]) == set(CONTROLS)
    assert report["verdict"] == "WITHHELD" and "no control applies" in report["why"]

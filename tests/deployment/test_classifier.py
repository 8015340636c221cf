"""`prepkd.load`: a model with its preprocessing in one line."""

import shutil
from pathlib import Path
from typing import Any

import prepkd
import pytest
import torch
from deployed import Project
from prepkd.errors import InputError
from prepkd.models.checkpoint import write_card
from prepkd.views.centre_crop import centre_crop, framed
from prepkd.views.framing import Framing


def test_uint8_and_float_images_give_the_logits(digits: Project) -> None:
    test = digits.dataset.held_out["test"]
    classifier = prepkd.load(str(digits.student))
    assert not classifier.training and classifier.class_names == tuple(map(str, range(10)))
    with torch.inference_mode():
        whole, share = classifier(test.images), classifier(test.evaluation_pixels(slice(None)))
    assert torch.equal(whole, share)
    torch.testing.assert_close(whole, digits.logits)
    assert sum(one.numel() for one in classifier.parameters()) == sum(one.numel() for one in digits.model.parameters())


def test_another_size_is_framed(digits: Project) -> None:
    classifier = prepkd.load(digits.student)
    images = torch.randint(256, (2, 1, 20, 31), dtype=torch.uint8)
    assert torch.equal(classifier(images), classifier(framed(images, Framing(height=8, width=8))))
    assert classifier(images / 255).shape == (2, 10)


@pytest.mark.parametrize("size", [(15, 63), (21, 30), (9, 100)])
def test_white_images_of_another_size_are_in_range(size: tuple[int, int], digits: Project) -> None:
    """Resized, ones can be 1 + 1e-7."""
    classifier, white = prepkd.load(digits.student), torch.ones(1, 1, *size)
    assert classifier.pixels(white).max() <= 1
    torch.testing.assert_close(classifier(white), classifier((255 * white).to(torch.uint8)))
    with pytest.raises(InputError, match=r"values from 1\.01 to 1\.01"):
        classifier(1.01 * white)


def test_a_centred_frame_is_the_centre_crop() -> None:
    images = torch.randint(256, (3, 3, 40, 61), dtype=torch.uint8)
    assert torch.equal(framed(images, Framing.centred(32)), centre_crop(images, 32))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(2, 3, 8, 8), "images have 3 channels; the model takes 1"),
        (torch.zeros(1, 8, 8), r"images have shape \(1, 8, 8\); expected \(N, 1, H, W\)"),
        (torch.zeros(2, 1, 0, 8), "images have shape"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int64), "images are torch.int64; expected uint8, or float"),
        (torch.full((2, 1, 8, 8), 255.0), r"values from 255 to 255; expected \[0, 1\]"),
        (torch.full((2, 1, 8, 8), -0.5), r"values from -0.5 to -0.5; expected \[0, 1\]"),
    ],
)
def test_other_images_are_refused(images: torch.Tensor, said: str, digits: Project) -> None:
    with pytest.raises(InputError, match=said):
        prepkd.load(digits.student)(images)


def test_half_precision_follows_the_model(digits: Project) -> None:
    classifier = prepkd.load(digits.student).double()
    assert classifier(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).dtype == torch.float64


def changed(digits: Project, folder: Path, *without: str, **changes: Any) -> Path:
    shutil.copytree(digits.student, folder)
    write_card(folder, {key: value for key, value in digits.card().items() if key not in without} | changes)
    return folder


@pytest.mark.parametrize("key", ["class_names", "evaluation"])
def test_a_card_without_names_or_size_is_refused(key: str, digits: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{key} is None; expected .*; train the model again, or save it anew"):
        prepkd.load(changed(digits, tmp_path / "old", key))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"class_names": ["a", "b"]}, "the number of class_names is 2, expected 10"),
        ({"class_names": [1] * 10}, "class_names is "),
        ({"class_names": "0123456789"}, "class_names is "),
        ({"evaluation": [8, 8]}, "evaluation is "),
        ({"evaluation": {"height": 0, "width": 8}}, "height is 0; expected"),
        ({"evaluation": {"height": 8, "width": 10**9}}, "width is 1000000000; expected"),
        ({"evaluation": {"height": 8, "width": 8, "resize": 4}}, "resizes to 4; expected at least"),
        ({"evaluation": {"height": 8, "width": 8, "x": 4}}, "unknown key"),
    ],
)
def test_a_strange_card_is_refused(changes: dict[str, Any], said: str, digits: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as caught:
        prepkd.load(changed(digits, tmp_path / "strange", **changes))
    assert "\n" not in str(caught.value)


def test_a_new_card_states_names_size_and_resize(whole_project: Path) -> None:
    """The commands write class names and evaluation size into the cards of teachers and students."""
    for name in ("models/teachers/large", "models/student/seed0"):
        classifier = prepkd.load(whole_project / name)
        assert classifier.card["evaluation"] == {"height": 8, "width": 8, "resize": None}
        assert classifier.card["class_names"] == [str(one) for one in range(10)]

"""torchvision's and timm's models by name, with random weights in the folder where the libraries look for downloads."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models import Normalised, build_model, check_model, load_checkpoint, pretrained, save_checkpoint
from prepkd.models.names import architecture, split_name
from torch import Tensor, nn
from torchvision.transforms import v2

NAME = "torchvision:squeezenet1_1:IMAGENET1K_V1"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Write a weights file to torch hub's folder, under the name and hash that torchvision expects."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(1)
    state = torchvision.models.squeezenet1_1(num_classes=1000).state_dict()
    made = tmp_path / "made.pth"
    torch.save(state, made)
    chosen = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    digest = hashlib.sha256(made.read_bytes()).hexdigest()[:8]
    changed = torchvision.models._api.Weights(
        url=f"https://example.invalid/squeezenet1_1-{digest}.pth", transforms=chosen.transforms, meta=chosen.meta
    )
    monkeypatch.setattr(chosen, "_value_", changed)
    target = tmp_path / "hub" / "checkpoints" / f"squeezenet1_1-{digest}.pth"
    target.parent.mkdir(parents=True)
    made.rename(target)
    return state


@pytest.mark.parametrize(
    ("name", "parts", "built_as"),
    [
        ("resnet8", ("", "resnet8", ""), "resnet8"),
        ("mine.models:small", ("", "mine.models:small", ""), "mine.models:small"),
        ("torchvision:resnet18", ("torchvision", "resnet18", ""), "torchvision:resnet18"),
        ("torchvision:resnet18:DEFAULT", ("torchvision", "resnet18", "DEFAULT"), "torchvision:resnet18"),
        ("timm:resnet18.a1_in1k:pretrained", ("timm", "resnet18.a1_in1k", "pretrained"), "timm:resnet18.a1_in1k"),
    ],
)
def test_what_a_name_says(name: str, parts: tuple[str, str, str], built_as: str) -> None:
    assert split_name(name) == parts and architecture(name) == built_as


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18", "timm:mobilenetv3_small_050"])
def test_without_weights_it_is_the_librarys_model(name: str) -> None:
    library, model, _ = split_name(name)
    made = {"torchvision": torchvision.models.get_model, "timm": timm.create_model}[library]
    torch.manual_seed(4)
    theirs = made(model, num_classes=7)
    torch.manual_seed(4)
    ours = build_model(name, 7)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.state_dict().items())
    assert pretrained(name) is None


def test_timm_takes_other_channels() -> None:
    assert build_model("timm:resnet18", 7, in_channels=1)(torch.rand(2, 1, 32, 32)).shape == (2, 7)


def test_weights_of_as_many_classes_are_taken_whole(weights: dict[str, Tensor]) -> None:
    state = build_model(NAME, 1000).state_dict()
    assert all(torch.equal(state[key], value) for key, value in weights.items())


def test_weights_of_other_classes_leave_the_classifier_new(weights: dict[str, Tensor]) -> None:
    model = build_model(NAME, 5)
    state = model.state_dict()
    new = [key for key, value in weights.items() if state[key].shape != value.shape]
    assert new == ["classifier.1.weight", "classifier.1.bias"]
    assert all(torch.equal(state[key], value) for key, value in weights.items() if key not in new)
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 5)


def test_what_is_known_of_torchvisions_weights() -> None:
    known = pretrained("torchvision:resnet18:IMAGENET1K_V1")
    assert known is not None and known.classes == 1000 and known.source.endswith("resnet18-f37072fd.pth")
    assert known.preprocessing == Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224, "bilinear")


def test_what_is_known_of_timms_weights() -> None:
    known = pretrained("timm:resnet18.a1_in1k:pretrained")
    assert known is not None and known.classes == 1000 and known.source == "timm/resnet18.a1_in1k"
    assert known.preprocessing == Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224, "bicubic")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pictures_are_resized_and_normalised_as_torchvision_does(interpolation: str) -> None:
    preprocessing = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 48, interpolation)
    pixels = torch.rand(3, 3, 20, 31)
    transform = v2.Compose(
        [v2.Resize((48, 48), v2.InterpolationMode(interpolation), antialias=True), v2.Lambda(lambda x: x.clamp(0, 1))]
    )
    expected = v2.functional.normalize(transform(pixels), [0.4, 0.5, 0.6], [0.2, 0.3, 0.25])
    torch.testing.assert_close(Normalised(nn.Identity(), preprocessing)(pixels), expected, rtol=1e-5, atol=1e-5)


def test_a_checkpoint_needs_no_weights_of_the_library(
    weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = pretrained(NAME)
    assert known is not None
    model = Normalised(build_model(NAME, 6), known.preprocessing).eval()
    save_checkpoint(tmp_path / "teacher", model, {"model": NAME, "num_classes": 6, "in_channels": 3})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    loaded, card = load_checkpoint(tmp_path / "teacher")
    assert card["preprocessing"] == known.preprocessing.describe() and loaded.preprocessing == known.preprocessing
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(pixels), model(pixels))


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        ("torchvision:resnet81", 3, "torchvision has no model 'resnet81'; did you mean resnet18"),
        ("torchvision:googlenet", 3, "not supported, because it returns auxiliary outputs"),
        ("torchvision:inception_v3:DEFAULT", 3, "not supported, because it returns auxiliary outputs"),
        ("torchvision:resnet18:V3", 3, "no weights 'V3'; offered: IMAGENET1K_V1"),
        ("torchvision:resnet18", 1, "takes 3 channels, the images have 1; timm's models take any"),
        ("timm:resnet81", 3, "timm has no model 'resnet81'; did you mean"),
        ("timm:resnet18:IMAGENET", 3, "expected timm:NAME or timm:NAME:pretrained"),
        ("timm:nfnet_f7s:pretrained", 3, "timm has no "),
        ("timm:resnet18.nobody:pretrained", 3, "timm has no weights for it; did you mean resnet18."),
        ("timm:resnet18.nobody", 3, "timm has no weights for it; did you mean resnet18."),
    ],
)
def test_what_can_not_be_built_is_said_in_one_line_and_before_it_is_built(
    name: str, channels: int, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        build_model(name, 10, in_channels=channels)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError) as early:
        check_model(name, channels)
    assert str(early.value) == str(caught.value)


@pytest.mark.parametrize("name", [NAME, "timm:resnet18.a1_in1k:pretrained", "torchvision:vit_b_16", "timm:resnet18"])
def test_names_are_checked_without_building_or_fetching(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for made in ("torchvision.models.get_model", "timm.create_model", "prepkd.models.library.LibraryModel.downloaded"):
        monkeypatch.setattr(made, lambda *_, **__: pytest.fail("built or fetched"))
    check_model(name)


def test_weights_that_are_not_the_models_name_it(weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.models.get_model", lambda *_, **__: torchvision.models.squeezenet1_0())
    with pytest.raises(InputError, match=f"^model '{NAME}': weights of another shape: features.0.weight"):
        build_model(NAME, 1000)


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1:IMAGENET1K_V1", "timm:resnet18:pretrained"])
def test_a_download_that_fails_is_said_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torchvision._internally_replaced_utils.load_state_dict_from_url", offline, raising=False)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    hint = f"drop ':{split_name(name)[2]}' from the name and set `weights` to a file and `preprocessing` to what they"
    with pytest.raises(InputError, match=f"failed: no network; try again, or {hint}"):
        build_model(name, 10)


def test_of_the_hubs_retries_nothing_is_said_but_our_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = logging.getLogger("huggingface_hub.utils._http")

    def offline(*_: Any, **__: Any) -> None:
        said.warning("Retrying in 1s [Retry 1/5].")
        raise OSError("no network")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(InputError, match="failed: no network"):
        build_model("timm:resnet18:pretrained", 10)
    said.warning("of somebody else's call")
    assert caplog.messages == ["of somebody else's call"]

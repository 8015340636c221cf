"""Pre-activations of the zoo: their place in each architecture, no cost unless requested, and their batch norms."""

import pytest
import torch
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models import Normalised, WithFeatures, build_model, feature_names
from prepkd.models.staged import Staged
from torch import Tensor, nn

SMALL = [
    "resnet8",
    "wrn_16_1",
    "vgg8",
    "mobilenetv2",
    "shufflenetv1",
    "shufflenetv2",
    "resnet18",
    "resnet50",
    "convnet4",
]


def made(name: str) -> Normalised:
    """Build a model with non-trivial batch norms: no scale is 1, no shift 0."""
    torch.manual_seed(3)
    model = Normalised(build_model(name, 7), Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3)))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
            nn.init.normal_(module.running_mean, std=0.1)
    return model


@pytest.fixture
def pixels() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def stages(model: Normalised) -> list[str]:
    return [name for name in feature_names(model) if name.startswith("stage") and "." not in name]


@pytest.mark.parametrize("name", SMALL)
def test_the_stage_is_its_activation(name: str, pixels: Tensor) -> None:
    """A ReLU of the pre-activation gives the stage, except for MobileNetV2 (no ReLU) and WRN (stages end before the norm)."""
    model = made(name).eval()
    found = WithFeatures(model, feature_names(model))(pixels)
    for stage in stages(model):
        before = found[f"{stage}.pre"]
        assert (before < 0).any() and (before > 0).any()
        if name == "mobilenetv2":
            assert torch.equal(before, found[stage])
        elif not name.startswith("wrn"):
            assert torch.equal(before.relu(), found[stage])


@pytest.mark.parametrize("training", [True, False])
def test_of_wrn_it_is_the_next_norms_output_computed_once(training: bool, pixels: Tensor) -> None:
    """The field's code applies that norm a second time, so that in training mode its statistics are updated twice per step."""
    model, plain = made("wrn_16_1").train(training), made("wrn_16_1").train(training)
    norms = ["block2.layer.0.bn1", "block3.layer.0.bn1", "bn1"]
    names = [f"{stage}.pre" for stage in stages(model)]
    found = WithFeatures(model, [*names, *norms, "pooled"])(pixels)
    for name, path in zip(names, norms, strict=True):
        assert torch.equal(found[name], found[path])
    assert torch.equal(found["stage3.pre"].relu().mean(dim=(2, 3)), found["pooled"])
    assert torch.equal(found["logits"], plain(pixels))
    for key, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
        if key.endswith("num_batches_tracked"):
            assert value == int(training)


@pytest.mark.parametrize("name", SMALL)
def test_other_values_and_gradients_do_not_change(name: str, pixels: Tensor) -> None:
    """Features, logits and gradients have the same bits with and without pre-activations."""
    model, asked = made(name), made(name)
    names = [one for one in feature_names(model) if not one.endswith(".pre")]
    plain, found = WithFeatures(model, names)(pixels), WithFeatures(asked, feature_names(asked))(pixels)
    assert all(torch.equal(found[one], plain[one]) for one in ("logits", *names))
    for each in (plain, found):
        each["logits"].square().sum().backward()
    for one, other in zip(model.parameters(), asked.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]


def test_they_are_not_kept_where_they_are_not_asked(pixels: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    whole = Staged.all_outputs
    monkeypatch.setattr(Staged, "all_outputs", lambda body, x: asked.append(body) or whole(body, x))
    model = made("resnet8")
    for names in ([], ["stage1", "pooled"], ["layer1"], ["stage3", "layer1.0.bn2/affine"]):
        WithFeatures(model, names)(pixels)
    assert not asked
    WithFeatures(model, ["stage1.pre"])(pixels)
    assert asked == [model.body]


@pytest.mark.parametrize("name", SMALL)
def test_gradients_flow_from_them(name: str, pixels: Tensor) -> None:
    model = made(name)
    found = WithFeatures(model, ["stage1.pre", "pooled"])(pixels)
    found["stage1.pre"].square().sum().backward()
    first = next(iter(model.parameters()))
    assert first.grad is not None and first.grad.abs().sum() > 0


PATHS = {
    "resnet8": ["layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2"],
    "wrn_16_1": ["block2.layer.0.bn1", "block3.layer.0.bn1", "bn1"],
    "vgg8": ["block1.1", "block2.1", "block3.1", "block4.1"],
    "mobilenetv2": ["blocks.1.1.conv.7", "blocks.2.2.conv.7", "blocks.4.2.conv.7", "blocks.6.0.conv.7"],
    "shufflenetv1": ["layer1.3.bn3", "layer2.7.bn3", "layer3.3.bn3"],
    "resnet18": ["layer1.1.bn2", "layer2.1.bn2", "layer3.1.bn2", "layer4.1.bn2"],
    "resnet50": ["layer1.2.bn3", "layer2.3.bn3", "layer3.5.bn3", "layer4.2.bn3"],
    "convnet4": ["bn2"],
}


@pytest.mark.parametrize("name", PATHS)
def test_the_norm_before_an_activation_gives_its_weight_and_bias(name: str, pixels: Tensor) -> None:
    """As with the field's `get_bn_before_relu`, the norm is found from the stage or by its own path."""
    model = made(name)
    names = [f"{stage}.pre/affine" for stage in stages(model)]
    found = WithFeatures(model, [*names, f"{PATHS[name][0]}/affine", "pooled"])(pixels)
    for one, path in zip(names, PATHS[name], strict=True):
        norm = model.body.get_submodule(path)
        assert torch.equal(found[one], torch.stack([norm.weight, norm.bias]).expand(3, 2, -1))
        assert not found[one].requires_grad
    assert torch.equal(found[f"{PATHS[name][0]}/affine"], found[names[0]])


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (
            "shufflenetv2",
            "stage1.pre/affine",
            "model ShuffleNetV2 has no feature 'stage1.pre/affine': 'stage1.pre' is not made by one batch norm; expected the "
            "path of a batch norm with affine parameters",
        ),
        (
            "convnet4",
            "stage1/affine",
            "model ConvNet has no feature 'stage1/affine': 'stage1' is not made by one batch norm; expected stage1.pre, or the "
            "path of a batch norm with affine parameters",
        ),
        (
            "convnet4",
            "conv1/affine",
            "model ConvNet has no feature 'conv1/affine': 'conv1' is not made by one batch norm; expected stage1.pre, or the "
            "path of a batch norm with affine parameters",
        ),
    ],
)
def test_what_no_norm_makes_is_refused(model: str, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        WithFeatures(made(model), [name])
    assert str(caught.value) == message

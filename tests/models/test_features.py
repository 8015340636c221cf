"""Named features: their shapes and values; logits and state of the model are the same with and without them."""

import copy

import pytest
import torch
from commands import ROOT
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models import MODELS, Normalised, WithFeatures, build_model, feature_names, feature_shapes
from prepkd.models.resnet import NARROW, ResNet
from torch import Tensor, nn

RGB = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))

# Shapes in the distillation literature's code for 32 x 32 pixels: stem, stages, pooled.
Shapes = list[tuple[int, ...]]
RESNET: Shapes = [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (64,)]
RESNET_X4: Shapes = [(32, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (256,)]
VGG: Shapes = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4), (512,)]
FOUR: Shapes = [(64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512,)]


def wide(factor: int) -> Shapes:
    return [(16, 32, 32), *((16 * factor * 2**i, 32 // 2**i, 32 // 2**i) for i in range(3)), (64 * factor,)]


PUBLISHED: dict[str, Shapes] = {
    **{f"resnet{depth}": RESNET for depth in (8, 14, 20, 32, 44, 56, 110)},
    "resnet8x4": RESNET_X4,
    "resnet32x4": RESNET_X4,
    **{name: wide(int(name.rpartition("_")[2])) for name in MODELS if name.startswith("wrn")},
    **{f"vgg{depth}": VGG for depth in (8, 11, 13, 16, 19)},
    "mobilenetv2": [(16, 16, 16), (12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2), (1280,)],
    "shufflenetv1": [(24, 32, 32), (240, 16, 16), (480, 8, 8), (960, 4, 4), (960,)],
    "shufflenetv2": [(24, 32, 32), (116, 16, 16), (232, 8, 8), (464, 4, 4), (1024,)],
    "resnet18": FOUR,
    "resnet34": FOUR,
    "resnet50": [(64, 32, 32), (256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4), (2048,)],
    **{f"convnet{w}": [(w, 32, 32), (2 * w, 16, 16), (2 * w,)] for w in (4, 8, 16, 32, 64)},
}
PAGE = ROOT / "docs" / "reference" / "models.md"
SMALL = ["resnet8", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2", "resnet18", "convnet4"]


def made(name: str, seed: int = 0) -> Normalised:
    torch.manual_seed(seed)
    return Normalised(build_model(name, 7), RGB)


@pytest.fixture
def pixels() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def features(model: Normalised, pixels: Tensor) -> dict[str, Tensor]:
    return WithFeatures(model, feature_names(model))(pixels)


def without_pre(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if not name.endswith(".pre"))


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_those_of_the_literature(name: str) -> None:
    with torch.device("meta"):
        model = Normalised(build_model(name, 7), RGB)
    names = without_pre(feature_names(model))
    assert names == ("stem", *(f"stage{i}" for i in range(1, len(names) - 1)), "pooled")
    shapes = feature_shapes(model, names, (32, 32))
    assert list(map(tuple, shapes.values())) == PUBLISHED[name] and tuple(shapes) == names
    assert feature_names(model) == (*names, *(f"{stage}.pre" for stage in names[1:-1]))
    assert list(feature_shapes(model, feature_names(model)[len(names) :], (32, 32)).values()) == [
        shapes[stage] for stage in names[1:-1]
    ]


def test_the_page_has_every_models_shapes() -> None:
    found: dict[str, Shapes] = {}
    for line in PAGE.read_text().partition("## Features")[2].splitlines():
        if line.startswith("| `"):
            models, *shapes = (cell.strip() for cell in line.strip("|").split("|"))
            for name in models.replace("`", "").split(", "):
                found[name] = [tuple(map(int, shape.split("x"))) for shape in ", ".join(shapes).split(", ")]
    assert found == PUBLISHED


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("training", [True, False])
def test_logits_are_the_models(name: str, training: bool, pixels: Tensor) -> None:
    plain, watched = made(name).train(training), made(name).train(training)
    before = list(watched.state_dict())
    found = features(watched, pixels)
    assert torch.equal(found["logits"], plain(pixels))
    assert list(watched.state_dict()) == before
    # In both models, batch norms update once per forward pass.
    for key, value in plain.state_dict().items():
        assert torch.equal(watched.state_dict()[key], value), key
        if key.endswith("num_batches_tracked"):
            assert value == int(training)


@pytest.mark.parametrize("name", SMALL)
def test_the_classifier_reads_the_pooled_vector(name: str, pixels: Tensor) -> None:
    model = made(name).eval()
    found = features(model, pixels)
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert torch.equal(head(found["pooled"]), found["logits"])
    assert list(found) == ["logits", *feature_names(model)]


def test_stages_end_as_in_the_literature(pixels: Tensor) -> None:
    """ResNets, VGG and ShuffleNetV1 after a ReLU; WRN with a sum, MobileNetV2 with a linear bottleneck."""
    for name in SMALL:
        found = features(made(name).eval(), pixels)
        signed = {key for key in without_pre(tuple(found)) if key.startswith("st") and found[key].min() < 0}
        expected = {
            "wrn_16_1": {"stem", "stage1", "stage2", "stage3"},
            "mobilenetv2": {"stage1", "stage2", "stage3", "stage4"},
        }
        assert signed == expected.get(name, set()), name


def test_features_are_the_modules_outputs(pixels: Tensor) -> None:
    """A stage's feature by name equals the output of its module by path."""
    paths = {
        "resnet8": {"stage1": "layer1", "stage2": "layer2", "stage3": "layer3"},
        "wrn_16_1": {"stem": "conv1", "stage1": "block1", "stage2": "block2", "stage3": "block3"},
        "mobilenetv2": {"stem": "conv1", "stage1": "blocks.1", "stage2": "blocks.2", "stage4": "blocks.6"},
        "shufflenetv2": {"stage1": "layer1", "stage2": "layer2", "stage3": "layer3"},
        "resnet18": {"stage1": "layer1", "stage4": "layer4"},
    }
    for name, pairs in paths.items():
        found = WithFeatures(made(name).eval(), [*pairs, *pairs.values()])(pixels)
        for stage, path in pairs.items():
            assert torch.equal(found[stage], found[path]), (name, stage)
    vgg = made("vgg8").eval()
    found = WithFeatures(vgg, ["stem", "block0", "stage4", "block4"])(pixels)
    assert torch.equal(found["stem"], found["block0"].relu()) and torch.equal(found["stage4"], found["block4"].relu())


def test_vgg_halves_images_of_64_pixels_after_its_third_stage() -> None:
    shapes = feature_shapes(made("vgg8"), ["stage3", "stage4"], (64, 64))
    assert list(shapes.values()) == [(512, 8, 8), (512, 4, 4)]


@pytest.mark.parametrize("names", [["stage2", "pooled"], ["layer2"], ["stage2", "layer1.0.bn2"]])
def test_gradients_flow_through_features(names: list[str], pixels: Tensor) -> None:
    model = made("resnet8")
    found = WithFeatures(model, names)(pixels)
    sum(value.square().sum() for key, value in found.items() if key != "logits").backward()
    assert isinstance(model.body, ResNet) and model.body.conv1.weight.grad is not None
    assert model.body.conv1.weight.grad.abs().sum() > 0 and model.body.fc.weight.grad is None


@pytest.mark.parametrize("names", [[], ["stage1", "pooled"], ["layer1"], ["stem", "layer2.0.conv1"]])
def test_nothing_is_left_on_the_model(names: list[str], pixels: Tensor) -> None:
    model = made("resnet8").eval()
    expected = model(pixels)
    first, second = WithFeatures(model, names), WithFeatures(model, ["stage3", "layer3"])
    one, two = first(pixels), second(pixels)
    assert list(one) == ["logits", *names] and torch.equal(two["stage3"], two["layer3"])
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    copied = copy.deepcopy(first)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert all(torch.equal(value, one[key]) for key, value in copied(pixels).items())
    assert torch.equal(copied.model(pixels), expected) and torch.equal(copied.model(pixels), one["logits"])
    assert not first(pixels)["logits"].any()


def test_hooks_go_when_a_forward_pass_fails() -> None:
    model = made("resnet8")
    with pytest.raises(InputError, match="images have 1 channels"):
        WithFeatures(model, ["layer1"])(torch.rand(2, 1, 32, 32))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("names", [["stage1", "pooled"], ["layer1"]])
def test_under_autocast(names: list[str], pixels: Tensor) -> None:
    model = made("resnet8").eval()
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = WithFeatures(model, names)(pixels), model(pixels)
    assert torch.equal(found["logits"], expected) and found["logits"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    "names", [["stage1", "pooled"], ["layer1", "stage2"], ["stage1.pre", "stage3", "stage3.pre", "stage2.pre/affine"]]
)
def test_compiled(names: list[str], pixels: Tensor) -> None:
    model, other = made("resnet8"), made("resnet8")
    torch.compiler.reset()
    compiled = torch.compile(WithFeatures(model, names), backend="eager", fullgraph="layer1" not in names)
    plain = WithFeatures(other, names)
    for _ in range(2):
        found, expected = compiled(pixels), plain(pixels)
        assert all(torch.equal(found[key], value) for key, value in expected.items())
        # The plain model still works after it has been compiled with features.
        assert torch.equal(torch.compile(model, backend="eager")(pixels), other(pixels))
    assert all(torch.equal(model.state_dict()[key], value) for key, value in other.state_dict().items())


class Scaled(ResNet):
    """A user's own subclass of a zoo model, with another forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_a_forward_pass_of_its_own_is_the_one_that_runs(pixels: Tensor) -> None:
    model = Normalised(Scaled(8, NARROW, num_classes=7), RGB).eval()
    assert feature_names(model) == ()
    assert torch.equal(WithFeatures(model, ["layer3"])(pixels)["logits"], model(pixels))


class Odd(nn.Module):
    """A model with module outputs that cannot be features: a tuple, a module run twice or never; it draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4)
        self.twice = nn.ReLU()
        self.never = nn.ReLU()
        self.norm = nn.BatchNorm2d(3)
        self.inplace = nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inplace(self.norm(x)).mean(dim=(2, 3))
        x = x + self.lstm(x)[0][:, :3] + torch.rand(())
        return self.head(self.twice(self.twice(x)))


def odd() -> Normalised:
    torch.manual_seed(0)
    return Normalised(Odd(), RGB)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lstm", "feature 'lstm' of Odd: the module returned a tuple; expected a tensor"),
        ("twice", "feature 'twice' of Odd: the module ran 2 times in a forward pass; expected once"),
        ("never", "feature 'never' of Odd: the module ran 0 times in a forward pass; expected once"),
    ],
)
def test_a_module_that_gives_no_feature_is_an_error(name: str, message: str, pixels: Tensor) -> None:
    with pytest.raises(InputError) as caught:
        WithFeatures(odd(), [name])(pixels)
    assert str(caught.value) == message


def test_what_a_later_module_overwrites_is_kept(pixels: Tensor) -> None:
    model = odd()
    expected = model.body.norm(model.prepare(pixels))
    found = WithFeatures(model, ["norm"])(pixels)["norm"]
    assert (found < 0).any() and torch.equal(found, expected)


@pytest.mark.parametrize("names", [["norm"], ["inplace", "norm"]])
def test_a_dry_run_leaves_everything_as_it_was(names: list[str]) -> None:
    model = odd()
    model.body.head.eval()
    modes = [module.training for module in model.modules()]
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert feature_shapes(model, names, (9, 8)) == {name: torch.Size([3, 9, 8]) for name in names}
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert torch.equal(torch.get_rng_state(), random)
    with pytest.raises(InputError, match="ran 2 times"):
        feature_shapes(model, ["twice"], (8, 8))
    assert [module.training for module in model.modules()] == modes


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError) as caught:
        WithFeatures(made("resnet8"), ["pooled", "stag3"])
    assert str(caught.value) == (
        "model ResNet has no feature 'stag3'; did you mean stage3? known: stem, stage1, stage2, stage3, pooled, stage1.pre, "
        "stage2.pre, stage3.pre, or the path of a module or of one within it: conv1, bn1, layer1, layer2, layer3, fc"
    )
    with pytest.raises(InputError) as caught:
        WithFeatures(odd(), [""])
    assert str(caught.value) == (
        "model Odd has no feature ''; expected the path of a module or of one within it: "
        "lstm, twice, never, norm, inplace, head"
    )


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        (
            "torchvision:resnet18",
            {"relu": (64, 16, 16), "bn1": (64, 16, 16), "layer1": (64, 8, 8), "layer4": (512, 1, 1)},
        ),
        ("torchvision:mobilenet_v2", {"features.3": (24, 8, 8)}),
        ("timm:resnet18", {"act1": (64, 16, 16), "layer3": (256, 2, 2), "global_pool": (512,)}),
    ],
)
def test_libraries_models_give_features_by_path(name: str, shapes: dict[str, tuple[int, ...]], pixels: Tensor) -> None:
    model = made(name).eval()
    assert feature_names(model) == ()
    assert {key: tuple(shape) for key, shape in feature_shapes(model, list(shapes), (32, 32)).items()} == shapes
    found = WithFeatures(model, list(shapes))(pixels)
    assert torch.equal(found["logits"], model(pixels))
    if "bn1" in found:
        assert torch.equal(found["bn1"].relu(), found["relu"]) and (found["bn1"] < 0).any()

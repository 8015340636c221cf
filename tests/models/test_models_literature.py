"""The rest of the literature's zoo: published sizes, and values against torchvision's blocks or the equations."""

import pytest
import torch
from prepkd.models import build_model
from prepkd.models.mobilenet import InvertedResidual
from prepkd.models.resnet_four import Bottleneck
from prepkd.models.shufflenet import DownV2
from test_models_zoo import lived_in, parameters
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import mobilenetv2, resnet, shufflenetv2, vgg

# Parameters at 100 classes, the stem's (channels out, kernel), and the width of the last layer's input. The sizes of vgg8, vgg13,
# mobilenetv2, shufflenetv1, shufflenetv2 and resnet50 are those of Tian et al.'s code; the others follow from their tables.
SIZES = {
    "wrn_28_10": (36_536_884, (16, 3), 640),
    "vgg8": (3_965_028, (64, 3), 512),
    "vgg11": (9_277_284, (64, 3), 512),
    "vgg13": (9_462_180, (64, 3), 512),
    "vgg16": (14_774_436, (64, 3), 512),
    "vgg19": (20_086_692, (64, 3), 512),
    "mobilenetv2": (812_836, (16, 3), 1280),
    "shufflenetv1": (949_258, (24, 1), 960),
    "shufflenetv2": (1_355_528, (24, 1), 1024),
    "resnet18": (11_220_132, (64, 3), 512),
    "resnet34": (21_328_292, (64, 3), 512),
    "resnet50": (23_705_252, (64, 3), 2048),
}
SMALL = ["vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"]


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_published_ones(name: str) -> None:
    published, (width, kernel), features = SIZES[name]
    assert parameters(build_model(name, 100)) == published
    smaller = published - 90 * (features + 1) - 2 * width * kernel**2
    assert parameters(build_model(name, 10, in_channels=1)) == smaller


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 64, 64), (3, 40, 56)])
@pytest.mark.parametrize("name", [*SMALL, "resnet18"])
def test_any_image_size_gives_logits_and_gradients(name: str, shape: tuple[int, int, int]) -> None:
    model = build_model(name, 7, in_channels=shape[0])
    logits = model(torch.rand(3, *shape))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", [*SMALL, "resnet18"])
def test_channels_last_gives_the_same_logits(name: str) -> None:
    model, images = lived_in(name), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    expected = model(images)
    model = model.to(memory_format=torch.channels_last)
    found = model(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def copied(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    """Load our weights into their module, whose layers have the same order and other names."""
    names, values = list(theirs.state_dict()), list(ours.state_dict().values())
    theirs.double().load_state_dict(dict(zip(names, values, strict=True)))
    return theirs.eval()


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize(("name", "letter"), [("vgg11", "A"), ("vgg13", "B"), ("vgg16", "D"), ("vgg19", "E")])
def test_vgg_is_torchvisions_without_its_last_pools(name: str, letter: str, side: int) -> None:
    model = lived_in(name)
    cfg = list(vgg.cfgs[letter])
    pools = [i for i, layer in enumerate(cfg) if layer == "M"]
    for i in reversed(pools[4:] if side == 64 else pools[3:]):
        del cfg[i]
    blocks = nn.Sequential(*(getattr(model, f"block{i}") for i in range(5)))
    theirs = copied(blocks, vgg.make_layers(cfg, batch_norm=True))
    image = torch.rand(2, 3, side, side, dtype=torch.float64)
    features = theirs(image)
    assert features.shape[2:] == (4, 4)
    expected = functional.linear(features.mean(dim=(2, 3)), model.classifier.weight, model.classifier.bias)
    torch.testing.assert_close(model(image), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_four_stage_resnets_are_torchvisions_behind_another_stem(name: str) -> None:
    model = lived_in(name)
    theirs = getattr(resnet, name)(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    theirs = copied(model, theirs)
    image = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(model(image), theirs(image), rtol=1e-9, atol=1e-9)
    assert isinstance(build_model("resnet50", 10).layer1[0], Bottleneck)


def test_mobilenet_is_made_of_torchvisions_blocks() -> None:
    model = lived_in("mobilenetv2")
    x = image = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    x = model.conv1(x)
    strides = [1, 1, 2, 2, 1, 2, 1]
    for index, stage in enumerate(model.blocks):
        for place, block in enumerate(stage):
            assert isinstance(block, InvertedResidual)
            before, after = x.shape[1], block.conv[-1].num_features
            step = strides[index] if place == 0 else 1
            if index == 0:  # torchvision omits the 1x1 convolution if the expansion is 1
                expected = block(x)
                by_hand = x
                for start, groups in ((0, 1), (3, 16)):
                    convolution, norm = block.conv[start], block.conv[start + 1]
                    by_hand = functional.conv2d(by_hand, convolution.weight, padding=groups // 16, groups=groups)
                    by_hand = norm(by_hand).clamp(min=0)
                by_hand = block.conv[7](functional.conv2d(by_hand, block.conv[6].weight))
                torch.testing.assert_close(expected, by_hand, rtol=1e-10, atol=1e-10)
                x = expected
                continue
            theirs = copied(block, mobilenetv2.InvertedResidual(before, after, step, 6))
            for part in theirs.conv[:2]:
                part[2] = nn.ReLU()
            x = theirs(x)
    assert x.shape[2:] == (2, 2)
    expected = model.classifier(model.conv2(x).mean(dim=(2, 3)))
    torch.testing.assert_close(model(image), expected, rtol=1e-9, atol=1e-9)


def test_shufflenetv2_is_made_of_torchvisions_blocks() -> None:
    model = lived_in("shufflenetv2")
    x = image = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    x = functional.relu(model.bn1(functional.conv2d(x, model.conv1.weight)))
    for layer, count in ((model.layer1, 4), (model.layer2, 8), (model.layer3, 4)):
        assert len(layer) == count
        for block in layer:
            down = isinstance(block, DownV2)
            width = 2 * block.conv2.out_channels
            x = copied(block, shufflenetv2.InvertedResidual(x.shape[1], width, 2 if down else 1))(x)
    x = functional.relu(model.bn2(functional.conv2d(x, model.conv2.weight)))
    expected = functional.linear(x.mean(dim=(2, 3)), model.linear.weight, model.linear.bias)
    torch.testing.assert_close(model(image), expected, rtol=1e-9, atol=1e-9)


def test_shufflenetv1_gives_the_values_of_its_equations() -> None:
    model = lived_in("shufflenetv1")

    def convolve(x: Tensor, layer: nn.Conv2d, stride: int, padding: int, groups: int) -> Tensor:
        """A grouped convolution as one convolution per group."""
        parts = zip(x.chunk(groups, dim=1), layer.weight.chunk(groups), strict=True)
        return torch.cat([functional.conv2d(a, w, stride=stride, padding=padding) for a, w in parts], dim=1)

    x = image = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    x = functional.relu(model.bn1(convolve(x, model.conv1, 1, 0, 1)))
    for layer in (model.layer1, model.layer2, model.layer3):
        for index, block in enumerate(layer):
            groups = 1 if x.shape[1] == 24 else 3
            step = 2 if index == 0 else 1
            y = functional.relu(block.bn1(convolve(x, block.conv1, 1, 0, groups)))
            order = torch.arange(y.shape[1]).reshape(groups, -1).T.reshape(-1)
            y = y[:, order]
            y = functional.relu(block.bn2(convolve(y, block.conv2, step, 1, y.shape[1])))
            y = block.bn3(convolve(y, block.conv3, 1, 0, 3))
            # The mean over 3 x 3 includes the padding's zeros.
            x = (
                torch.cat([y, functional.pad(x, [1] * 4).unfold(2, 3, 2).unfold(3, 3, 2).mean(dim=(4, 5))], 1)
                if (step == 2)
                else y + x
            )
            x = functional.relu(x)
    assert x.shape[1:] == (960, 2, 2)
    expected = functional.linear(x.mean(dim=(2, 3)), model.linear.weight, model.linear.bias)
    torch.testing.assert_close(model(image), expected, rtol=1e-9, atol=1e-9)

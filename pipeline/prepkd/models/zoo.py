"""The zoo: prepkd's own models by name."""

from collections.abc import Callable
from functools import partial

from torch import nn

from prepkd.models.convnet import ConvNet
from prepkd.models.mobilenet import MobileNetV2
from prepkd.models.resnet import NARROW, WIDE_X4, ResNet
from prepkd.models.resnet_four import Basic, Bottleneck, FourStageResNet
from prepkd.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from prepkd.models.vgg import VGG, VGG8, VGG11, VGG13, VGG16, VGG19
from prepkd.models.wrn import WideResNet

# Each is called with the keywords num_classes and in_channels.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": partial(ResNet, 8, NARROW),
    "resnet14": partial(ResNet, 14, NARROW),
    "resnet20": partial(ResNet, 20, NARROW),
    "resnet32": partial(ResNet, 32, NARROW),
    "resnet44": partial(ResNet, 44, NARROW),
    "resnet56": partial(ResNet, 56, NARROW),
    "resnet110": partial(ResNet, 110, NARROW),
    "resnet8x4": partial(ResNet, 8, WIDE_X4),
    "resnet32x4": partial(ResNet, 32, WIDE_X4),
    "wrn_16_1": partial(WideResNet, 16, 1),
    "wrn_16_2": partial(WideResNet, 16, 2),
    "wrn_40_1": partial(WideResNet, 40, 1),
    "wrn_40_2": partial(WideResNet, 40, 2),
    "wrn_28_10": partial(WideResNet, 28, 10),
    "vgg8": partial(VGG, VGG8),
    "vgg11": partial(VGG, VGG11),
    "vgg13": partial(VGG, VGG13),
    "vgg16": partial(VGG, VGG16),
    "vgg19": partial(VGG, VGG19),
    "mobilenetv2": partial(MobileNetV2, 0.5),
    "shufflenetv1": ShuffleNetV1,
    "shufflenetv2": ShuffleNetV2,
    "resnet18": partial(FourStageResNet, Basic, (2, 2, 2, 2)),
    "resnet34": partial(FourStageResNet, Basic, (3, 4, 6, 3)),
    "resnet50": partial(FourStageResNet, Bottleneck, (3, 4, 6, 3)),
    "convnet4": partial(ConvNet, 4),
    "convnet8": partial(ConvNet, 8),
    "convnet16": partial(ConvNet, 16),
    "convnet32": partial(ConvNet, 32),
    "convnet64": partial(ConvNet, 64),
}

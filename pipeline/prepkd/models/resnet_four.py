"""ImageNet's four-stage ResNets with a CIFAR stem: resnet18, resnet34, resnet50."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from prepkd.models.resnet import initialise
from prepkd.models.staged import Stage, Staged, tapped

WIDTHS = (64, 128, 256, 512)


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, in_width, H, W) to (B, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(in_width, width, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm before the sum."""
        return self.bn2

    def forward(self, x: Tensor, pre: list[Tensor] | None = None) -> Tensor:
        """The block's output; the ReLU comes after the sum, which is the pre-activation."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return functional.relu(tapped(pre, out + self.shortcut(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width, and a shortcut: to (B, 4 width, H / stride, W / stride)."""

    expansion = 4

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = _shortcut(in_width, 4 * width, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm before the sum."""
        return self.bn3

    def forward(self, x: Tensor, pre: list[Tensor] | None = None) -> Tensor:
        """The block's output; the ReLU comes after the sum, which is the pre-activation."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = functional.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return functional.relu(tapped(pre, out + self.shortcut(x)))


class FourStageResNet(Staged):
    """A ResNet of four stages: images (B, in_channels, H, W), any size, to logits (B, num_classes).

    The 3x3 stem keeps the image's size. Source: He et al., arXiv 1512.03385, table 1; the stem as in Tian et al., arXiv
    1910.10699, whose published weights of `ResNet50` it loads.
    """

    FEATURES = ("stem", "stage1", "stage2", "stage3", "stage4", "pooled")

    def __init__(
        self, block: type[Basic | Bottleneck], blocks: Sequence[int], *, num_classes: int, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        stages, before = [], WIDTHS[0]
        for i, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True)):
            out = width * block.expansion
            first = block(before, width, 1 if i == 0 else 2)
            stages.append(Stage(first, *(block(out, width, 1) for _ in range(count - 1))))
            before = out
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(before, num_classes)
        initialise(self)

    def outputs(self, x: Tensor, pre: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Features and `logits` (B, num_classes) of images (B, in_channels, H, W)."""
        stem = functional.relu(self.bn1(self.conv1(x)))
        stage1 = self.layer1(stem, pre)
        stage2 = self.layer2(stage1, pre)
        stage3 = self.layer3(stage2, pre)
        stage4 = self.layer4(stage3, pre)
        pooled = stage4.mean(dim=(2, 3))
        return self.named(stem, stage1, stage2, stage3, stage4, pooled, logits=self.linear(pooled))

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        """The last norm of each stage's last block; its output and the shortcut are summed before the ReLU."""
        stages = self.layer1, self.layer2, self.layer3, self.layer4
        return tuple(cast(Basic | Bottleneck, stage[-1]).last_norm for stage in stages)


def _shortcut(in_width: int, width: int, stride: int) -> nn.Sequential:
    if stride == 1 and in_width == width:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width))

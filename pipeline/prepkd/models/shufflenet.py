"""ShuffleNetV1 and ShuffleNetV2 for CIFAR: the field's `ShuffleV1` and `ShuffleV2`."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from prepkd.models.staged import Stage, Staged, tapped

STEM = 24
GROUPS = 3  # of ShuffleNetV1
WIDTHS_V1, BLOCKS_V1 = (240, 480, 960), (4, 8, 4)
WIDTHS_V2, BLOCKS_V2, LAST_V2 = (116, 232, 464), (4, 8, 4), 1024


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of (B, C, H, W): the first channel of each of the `groups`, then the second, and so on."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


class UnitV1(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; with stride 2, concatenated with the average-pooled input."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        narrow = width // 4
        self.stride = stride
        self.groups = 1 if in_width == STEM else GROUPS  # no groups for the few channels of the stem
        self.conv1 = nn.Conv2d(in_width, narrow, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, padding=1, groups=narrow, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, width, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, pre: list[Tensor] | None = None) -> Tensor:
        """(B, in_width, H, W) to (B, width, H, W), or to (B, in_width + width, H / 2, W / 2)."""
        out = shuffle(functional.relu(self.bn1(self.conv1(x))), self.groups)
        out = functional.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.stride == 1:
            return functional.relu(tapped(pre, out + x))
        return functional.relu(torch.cat([out, functional.avg_pool2d(x, 3, stride=2, padding=1)], dim=1))


class ShuffleNetV1(Staged):
    """ShuffleNet with 3 groups: images (B, in_channels, H, W), any size, to logits (B, num_classes).

    Source: Zhang et al., arXiv 1707.01083, with a stem of one 1x1 convolution, as in Tian et al., arXiv 1910.10699.
    """

    FEATURES = ("stem", "stage1", "stage2", "stage3", "pooled")

    def __init__(self, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        stages, before = [], STEM
        for width, blocks in zip(WIDTHS_V1, BLOCKS_V1, strict=True):
            # The first unit concatenates its channels with those of its input.
            first = UnitV1(before, width - before, 2)
            stages.append(Stage(first, *(UnitV1(width, width, 1) for _ in range(blocks - 1))))
            before = width
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(before, num_classes)

    def outputs(self, x: Tensor, pre: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Features and `logits` (B, num_classes) of images (B, in_channels, H, W)."""
        stem = functional.relu(self.bn1(self.conv1(x)))
        stage1 = self.layer1(stem, pre)
        stage2 = self.layer2(stage1, pre)
        stage3 = self.layer3(stage2, pre)
        pooled = stage3.mean(dim=(2, 3))
        return self.named(stem, stage1, stage2, stage3, pooled, logits=self.linear(pooled))

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        """The last norm of each stage's last unit; its output and the shortcut are summed before the ReLU."""
        return tuple(cast(UnitV1, stage[-1]).bn3 for stage in (self.layer1, self.layer2, self.layer3))


class UnitV2(nn.Module):
    """Half of the channels pass unchanged, the others through 1x1, depthwise 3x3, 1x1; then both are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor, pre: list[Tensor] | None = None) -> Tensor:
        """(B, width, H, W) to the same shape; half of the pre-activation is the unchanged input, which had its ReLU before."""
        passed, out = x.chunk(2, dim=1)
        out = functional.relu(self.bn1(self.conv1(out)))
        out = self.bn2(self.conv2(out))
        out = self.bn3(self.conv3(out))
        if pre is not None:
            pre.append(shuffle(torch.cat([passed, out], dim=1), 2))
        return shuffle(torch.cat([passed, functional.relu(out)], dim=1), 2)


class DownV2(nn.Module):
    """Two branches of stride 2, concatenated and shuffled: (B, in_width, H, W) to (B, width, H / 2, W / 2)."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(in_width, in_width, 3, 2, padding=1, groups=in_width, bias=False)
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv2 = nn.Conv2d(in_width, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_width, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        """The channels of both branches, shuffled."""
        left = functional.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = functional.relu(self.bn3(self.conv3(x)))
        right = functional.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return shuffle(torch.cat([left, right], dim=1), 2)


class ShuffleNetV2(Staged):
    """ShuffleNetV2 at full width: images (B, in_channels, H, W), any size, to logits (B, num_classes).

    Source: Ma et al., arXiv 1807.11164, with a stem of one 1x1 convolution, as in Tian et al., arXiv 1910.10699.
    """

    FEATURES = ("stem", "stage1", "stage2", "stage3", "pooled")

    def __init__(self, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        stages, before = [], STEM
        for width, blocks in zip(WIDTHS_V2, BLOCKS_V2, strict=True):
            stages.append(Stage(DownV2(before, width), *(UnitV2(width) for _ in range(blocks - 1))))
            before = width
        self.layer1, self.layer2, self.layer3 = stages
        self.conv2 = nn.Conv2d(before, LAST_V2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST_V2)
        self.linear = nn.Linear(LAST_V2, num_classes)

    def outputs(self, x: Tensor, pre: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Features and `logits` (B, num_classes) of images (B, in_channels, H, W)."""
        stem = functional.relu(self.bn1(self.conv1(x)))
        stage1 = self.layer1(stem, pre)
        stage2 = self.layer2(stage1, pre)
        stage3 = self.layer3(stage2, pre)
        pooled = functional.relu(self.bn2(self.conv2(stage3))).mean(dim=(2, 3))
        return self.named(stem, stage1, stage2, stage3, pooled, logits=self.linear(pooled))

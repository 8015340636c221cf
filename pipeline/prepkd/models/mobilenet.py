"""MobileNetV2 for CIFAR at half width: the field's `MobileNetV2`."""

from typing import cast

from torch import Tensor, nn

from prepkd.models.resnet import initialise
from prepkd.models.staged import Staged, tapped

# Per stage: expansion, channels at full width, number of blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST = 1280  # channels of the last convolution, at every width


class InvertedResidual(nn.Module):
    """Expand, convolve depthwise, project without a ReLU: (B, in_width, H, W) to (B, width, H / stride, W / stride)."""

    def __init__(self, in_width: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_width * expansion
        self.residual = stride == 1 and in_width == width
        self.conv = nn.Sequential(
            *_convolution(in_width, wide, 1),
            *_convolution(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, plus its input if the shapes are equal."""
        out = cast(Tensor, self.conv(x))
        return x + out if self.residual else out


class MobileNetV2(Staged):
    """MobileNetV2 of a given width: images (B, in_channels, H, W), any size, to logits (B, num_classes).

    Differs from ImageNet's version in two ways: the 24-channel stage has stride 1 instead of 2, and the block of expansion 1
    has a first 1x1 convolution too. Source: Sandler et al., arXiv 1801.04381; this form as in Tian et al., arXiv 1910.10699.
    """

    FEATURES = ("stem", "stage1", "stage2", "stage3", "stage4", "pooled")

    def __init__(self, width: float, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = nn.Sequential(*_convolution(in_channels, channels, 3, stride=2))
        self.blocks = nn.ModuleList()
        for expansion, full, count, stride in STAGES:
            stage = []
            for i in range(count):
                stage.append(InvertedResidual(channels, int(full * width), stride if i == 0 else 1, expansion))
                channels = int(full * width)
            self.blocks.append(nn.Sequential(*stage))
        self.conv2 = nn.Sequential(*_convolution(channels, LAST, 1))
        head = nn.Linear(LAST, num_classes)
        self.classifier = nn.Sequential(head)
        initialise(self)
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)

    def outputs(self, x: Tensor, pre: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Features and `logits` (B, num_classes) of images (B, in_channels, H, W)."""
        stem = self.conv1(x)
        # Stages as in Tian et al.'s code; they end without a ReLU, so that each is its own pre-activation.
        stage1 = tapped(pre, self.blocks[1](self.blocks[0](stem)))
        stage2 = tapped(pre, self.blocks[2](stage1))
        stage3 = tapped(pre, self.blocks[4](self.blocks[3](stage2)))
        stage4 = tapped(pre, self.blocks[6](self.blocks[5](stage3)))
        pooled = self.conv2(stage4).mean(dim=(2, 3))
        return self.named(stem, stage1, stage2, stage3, stage4, pooled, logits=self.classifier(pooled))

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        """The norm of each stage's last projection; its output and the shortcut are summed."""
        stages = (cast(nn.Sequential, self.blocks[i]) for i in (1, 2, 4, 6))
        return tuple(cast(nn.BatchNorm2d, cast(InvertedResidual, stage[-1]).conv[-1]) for stage in stages)


def _convolution(in_width: int, width: int, size: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_width, width, size, stride, size // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU()

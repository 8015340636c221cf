"""Wide ResNets for CIFAR: wrn_16_1, wrn_16_2, wrn_40_1, wrn_40_2, wrn_28_10 (depth, widening factor)."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from prepkd.models.resnet import initialise
from prepkd.models.staged import Staged, tapped


class PreactBlock(nn.Module):
    """Norm and ReLU before each 3x3 convolution: (B, in_width, H, W) to (B, width, H / stride, W / stride)."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        # The name in the published weights.
        self.convShortcut = nn.Conv2d(in_width, width, 1, stride, bias=False) if in_width != width else None

    def forward(self, x: Tensor, pre: list[Tensor] | None = None) -> Tensor:
        """The block's output; if the width changes, the shortcut also starts from the activated input.

        With a list as `pre`, the normed input is appended to it: the pre-activation of the stage before.
        """
        active = functional.relu(tapped(pre, self.bn1(x)))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        out = functional.relu(self.bn2(self.conv1(active)))
        return cast(Tensor, shortcut + self.conv2(out))


class WideResNet(Staged):
    """A wide ResNet of depth 6n + 4, no dropout: images (B, in_channels, H, W), any size, to logits (B, num_classes).

    Raises ValueError for another depth. Source: Zagoruyko, Komodakis, "Wide Residual Networks", arXiv 1605.07146,
    table 1. Parameters have the names of Tian et al.'s published weights (arXiv 1910.10699).
    """

    FEATURES = ("stem", "stage1", "stage2", "stage3", "pooled")

    def __init__(self, depth: int, factor: int, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth is {depth}; expected 6n + 4 with n >= 1")
        blocks = (depth - 4) // 6
        widths = (16 * factor, 32 * factor, 64 * factor)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = _Stage(16, widths[0], blocks, stride=1)
        self.block2 = _Stage(widths[0], widths[1], blocks, stride=2)
        self.block3 = _Stage(widths[1], widths[2], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], num_classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def outputs(self, x: Tensor, pre: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Features and `logits` (B, num_classes) of images (B, in_channels, H, W)."""
        stem = self.conv1(x)
        # A stage ends with the residual sum, before the next norm and ReLU, as in Tian et al.'s code. Its pre-activation is
        # that norm's output, which the next stage computes: a second pass would update the norm's statistics twice.
        stage1 = self.block1(stem)
        stage2 = self.block2(stage1, pre)
        stage3 = self.block3(stage2, pre)
        pooled = functional.relu(tapped(pre, self.bn1(stage3))).mean(dim=(2, 3))
        return self.named(stem, stage1, stage2, stage3, pooled, logits=self.fc(pooled))

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        """The norm after each stage's sum."""
        return cast(PreactBlock, self.block2.layer[0]).bn1, cast(PreactBlock, self.block3.layer[0]).bn1, self.bn1


class _Stage(nn.Module):
    """Blocks of one width; a separate module because the published weights have its `layer` in their names.

    With a list as `pre`, the first block appends its normed input to it.
    """

    def __init__(self, in_width: int, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreactBlock(in_width, width, stride)
        self.layer = _Blocks(first, *(PreactBlock(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor, pre: list[Tensor] | None = None) -> Tensor:
        return cast(Tensor, self.layer(x, pre))


class _Blocks(nn.Sequential):
    def forward(self, x: Tensor, pre: list[Tensor] | None = None) -> Tensor:
        first, *others = self
        x = first(x, pre)
        for block in others:
            x = block(x)
        return x

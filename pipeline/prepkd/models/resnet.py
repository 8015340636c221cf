"""CIFAR ResNets of the distillation literature: resnet8 to resnet110, and the wider resnet8x4 and resnet32x4."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from prepkd.models.staged import Stage, Staged, tapped

NARROW = (16, 16, 32, 64)  # widths of the stem and of the three stages
WIDE_X4 = (32, 64, 128, 256)


def initialise(model: nn.Module) -> None:
    """Apply He's initialisation in place: convolutions normal with variance 2 / fan-out, batch norms 1 and 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, in_width, H, W) to (B, width, H / stride, W / stride)."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_width != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_width, width, 1, stride, bias=False),
                nn.BatchNorm2d(width),
            )

    def forward(self, x: Tensor, pre: list[Tensor] | None = None) -> Tensor:
        """The block's output; the ReLU comes after the sum, which is the pre-activation."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return functional.relu(tapped(pre, out + self.downsample(x)))


class ResNet(Staged):
    """A CIFAR ResNet of depth 6n + 2: images (B, in_channels, H, W), any size, to logits (B, num_classes).

    Raises ValueError for another depth. Source: He et al., "Deep Residual Learning for Image Recognition",
    arXiv 1512.03385, section 4.2, with projection shortcuts (option B) as in Tian et al., "Contrastive Representation
    Distillation", arXiv 1910.10699; it loads their published weights, whose parameter names it has.
    """

    FEATURES = ("stem", "stage1", "stage2", "stage3", "pooled")

    def __init__(
        self, depth: int, widths: tuple[int, int, int, int], *, num_classes: int, in_channels: int = 3
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth is {depth}; expected 6n + 2 with n >= 1")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(widths[0], widths[1], blocks, stride=1)
        self.layer2 = _stage(widths[1], widths[2], blocks, stride=2)
        self.layer3 = _stage(widths[2], widths[3], blocks, stride=2)
        self.fc = nn.Linear(widths[3], num_classes)
        initialise(self)

    def outputs(self, x: Tensor, pre: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Features and `logits` (B, num_classes) of images (B, in_channels, H, W)."""
        stem = functional.relu(self.bn1(self.conv1(x)))
        stage1 = self.layer1(stem, pre)
        stage2 = self.layer2(stage1, pre)
        stage3 = self.layer3(stage2, pre)
        pooled = stage3.mean(dim=(2, 3))
        return self.named(stem, stage1, stage2, stage3, pooled, logits=self.fc(pooled))

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        """The last norm of each stage's last block; its output and the shortcut are summed before the ReLU."""
        return tuple(cast(BasicBlock, stage[-1]).bn2 for stage in (self.layer1, self.layer2, self.layer3))


def _stage(in_width: int, width: int, blocks: int, stride: int) -> Stage:
    first = BasicBlock(in_width, width, stride)
    return Stage(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))

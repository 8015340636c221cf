"""A published architecture as a teacher: the ResNets of github.com/karanchahal/distiller, written from the checkpoints' keys.

Its published CIFAR-100 checkpoints load as they are. In params.yaml, with this file in the project's root:

    teachers:
      resnet32:
        model: distiller_resnet:resnet32
        epochs: 0
        weights: resnet32_cifar100.pth
        preprocessing: {mean: [0.507, 0.487, 0.441], std: [0.267, 0.256, 0.276]}
"""

from torch import Tensor, nn
from torch.nn.functional import relu


class Block(nn.Module):
    """A basic block without a ReLU after the sum."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """Images float32 (B, C, H, W) -> (B, C', H', W')."""
        return self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))) + self.shortcut(x)


class ResNet(nn.Module):
    """Three stages of (depth - 2) / 6 blocks; 64 filters first, and 2 x 2 x 64 pooled numbers last."""

    def __init__(self, depth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for stage, width in enumerate((16, 32, 64), start=1):
            blocks = [Block(before, width, 1 if stage == 1 else 2)]
            blocks += [Block(width, width, 1) for _ in range((depth - 2) // 6 - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            before = width
        # Modules without weights, named like the zoo's features so that feature terms find them.
        self.stage1, self.stage2, self.stage3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pooled = nn.Sequential(nn.AvgPool2d(4), nn.Flatten())
        self.linear = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images float32 (B, C, 32, 32) -> logits (B, K)."""
        x = relu(self.bn1(self.conv1(x)))
        x = self.stage1(self.layer1(x))
        x = self.stage2(self.layer2(x))
        x = self.stage3(self.layer3(x))
        return self.linear(self.pooled(x))


def resnet8(num_classes: int, in_channels: int) -> ResNet:
    """ResNet of depth 8."""
    return ResNet(8, num_classes, in_channels)


def resnet20(num_classes: int, in_channels: int) -> ResNet:
    """ResNet of depth 20."""
    return ResNet(20, num_classes, in_channels)


def resnet32(num_classes: int, in_channels: int) -> ResNet:
    """ResNet of depth 32."""
    return ResNet(32, num_classes, in_channels)

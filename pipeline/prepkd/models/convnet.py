"""Small plain networks for 8x8 digits, convnet4 to convnet64, named after the width of their first layer."""

from torch import Tensor, nn
from torch.nn import functional

from prepkd.models.resnet import initialise
from prepkd.models.staged import Staged, tapped


class ConvNet(Staged):
    """Two 3x3 convolutions of `width` and 2 `width` channels: images (B, in_channels, H, W) to logits (B, num_classes).

    H and W are at least 2. prepkd's own, so that teacher and student of the digits demo train in seconds on a CPU; no
    published accuracy compares with its own.
    """

    FEATURES = ("stem", "stage1", "pooled")

    def __init__(self, width: int, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width, num_classes)
        initialise(self)

    def outputs(self, x: Tensor, pre: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Features and `logits` (B, num_classes) of images (B, in_channels, H, W)."""
        stem = functional.relu(self.bn1(self.conv1(x)))
        stage1 = functional.relu(tapped(pre, self.bn2(self.conv2(functional.max_pool2d(stem, 2)))))
        pooled = stage1.mean(dim=(2, 3))
        return self.named(stem, stage1, pooled, logits=self.fc(pooled))

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        """The norm before the stage's ReLU."""
        return (self.bn2,)

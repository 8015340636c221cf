"""VGG for CIFAR: vgg8, vgg11, vgg13, vgg16, vgg19, with batch norm and one linear layer."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from prepkd.models.resnet import initialise
from prepkd.models.staged import Staged, tapped

# The number of 3x3 convolutions in each of the five blocks.
VGG8, VGG11, VGG13 = (1, 1, 1, 1, 1), (1, 1, 2, 2, 2), (2, 2, 2, 2, 2)
VGG16, VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
WIDTHS = (64, 128, 256, 512, 512)


class VGG(Staged):
    """Five blocks of 3x3 convolutions: images (B, in_channels, H, W) of 8 pixels or more to logits (B, num_classes).

    Max pooling halves the maps after each of the first three blocks, and after the fourth too for images of 64 pixels.
    Source: Simonyan and Zisserman, arXiv 1409.1556, with batch norm and without the two hidden linear layers, as in Tian
    et al., "Contrastive Representation Distillation", arXiv 1910.10699, whose published weights it loads.
    """

    FEATURES = ("stem", "stage1", "stage2", "stage3", "stage4", "pooled")

    def __init__(self, depths: Sequence[int], *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        before = (in_channels, *WIDTHS[:-1])
        blocks = [_block(*shape) for shape in zip(before, WIDTHS, depths, strict=True)]
        self.block0, self.block1, self.block2, self.block3, self.block4 = blocks
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)
        initialise(self)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def outputs(self, x: Tensor, pre: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Features and `logits` (B, num_classes) of images (B, in_channels, H, W)."""
        # Features are the maps before max pooling, as in Tian et al.'s code.
        stem = functional.relu(self.block0(x))
        stage1 = functional.relu(tapped(pre, self.block1(functional.max_pool2d(stem, 2))))
        stage2 = functional.relu(tapped(pre, self.block2(functional.max_pool2d(stage1, 2))))
        stage3 = functional.relu(tapped(pre, self.block3(functional.max_pool2d(stage2, 2))))
        last = functional.max_pool2d(stage3, 2) if x.shape[2] == 64 else stage3
        stage4 = functional.relu(tapped(pre, self.block4(last)))
        pooled = stage4.mean(dim=(2, 3))
        return self.named(stem, stage1, stage2, stage3, stage4, pooled, logits=self.classifier(pooled))

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        """The last norm of each stage."""
        return tuple(cast(nn.BatchNorm2d, block[-1]) for block in (self.block1, self.block2, self.block3, self.block4))


def _block(in_width: int, width: int, depth: int) -> nn.Sequential:
    """Convolutions, norms and ReLUs, without the last ReLU; positions in it are names in the published weights."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(in_width if i == 0 else width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])

"""A split's images and labels on the training device, and what a view makes of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prepkd.data import EncodedImages, Split
from prepkd.errors import InputError
from prepkd.labels import mixture
from prepkd.views import ViewPlan


@dataclass(frozen=True)
class Samples:
    """Images uint8 (N, C, H, W) and labels int64 (N,) on the training device."""

    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, split: Split, device: torch.device) -> "Samples":
        """A split's arrays, channels first, on a device."""
        if isinstance(split.images, EncodedImages):
            raise InputError("the images are encoded (prepare.dataset: folder); this command takes arrays of one size")
        images = torch.from_numpy(split.images).permute(0, 3, 1, 2).contiguous()
        return cls(images.to(device), torch.from_numpy(split.labels).to(device))

    @property
    def device(self) -> torch.device:
        """Where pixels are rendered and labels are."""
        return self.labels.device

    @property
    def channels(self) -> int:
        """How many channels every image has."""
        return int(self.images.shape[1])

    def __len__(self) -> int:
        return len(self.labels)

    def under(self, plan: ViewPlan, view: int, part: slice) -> tuple[Tensor, Tensor]:
        """A range of samples, int64 (B,), and their rows of integers (B, p) under one view."""
        chosen = torch.arange(len(self))[part].to(self.device)
        return chosen, torch.from_numpy(plan.parameters(view, part)).to(self.device)

    def pixels(self, plan: ViewPlan, chosen: Tensor, rows: Tensor) -> Tensor:
        """Some samples, int64 (B,), as their rows of integers (B, p) show them: float32 (B, C, H, W) in [0, 1]."""
        partners = plan.partners(rows)
        return plan.render(self.images[chosen], rows, None if partners is None else self.images[partners])

    def targets(self, plan: ViewPlan, chosen: Tensor, rows: Tensor, classes: int) -> Tensor:
        """The labels of what `pixels` shows: int64 (B,), or where two samples are mixed a share of each class, (B, K)."""
        labels, partners = self.labels[chosen], plan.partners(rows)
        if partners is None:
            return labels
        height, width = self.images.shape[-2:]
        return mixture(labels, self.labels[partners], plan.shares(rows, (height, width)), classes)

    def plain(self, part: slice) -> Tensor:
        """Some samples as they are, for evaluation: float32 (B, C, H, W) in [0, 1]."""
        return self.images[part].float() / 255

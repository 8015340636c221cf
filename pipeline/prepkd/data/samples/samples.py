"""A split's images and labels on the training device, and their views."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from prepkd.data.images.encoded import DecodedImage, EncodedImages
from prepkd.data.images.threads import threaded
from prepkd.data.prepared.file import Split
from prepkd.data.samples.labels import mixture
from prepkd.errors import InputError
from prepkd.runtime.processors import compute_on, idle_processors
from prepkd.views import Recipe, ViewPlan, takes_any_size, view_side
from prepkd.views.render import unit_range

IMAGES_PER_TASK = 8  # encoded images per task of a decoding thread


@dataclass(frozen=True)
class Samples:
    """Labels int64 (N,) on the training device, and images: uint8 (N, C, H, W) there, or encoded and decoded as needed.

    `side` is the side of the rendered pictures, None for the images' own size; `fingerprint` is the split's.
    """

    images: Tensor | EncodedImages
    labels: Tensor
    side: int | None = None
    fingerprint: str = ""

    @classmethod
    def of(cls, split: Split, device: torch.device, recipe: Recipe = ()) -> "Samples":
        """Move a split to the device; raises InputError if image sizes may differ and the recipe does not make them equal."""
        labels = torch.from_numpy(split.labels).to(device)
        if isinstance(split.images, EncodedImages):
            if takes_any_size(recipe) is None:
                raise InputError(
                    "the images are kept encoded, their sizes may differ; expected `augment` to start with a resized crop of "
                    "one size, as `- resized-crop: {size: 224}`"
                )
            return cls(split.images, labels, view_side(recipe), split.fingerprint)
        images = torch.from_numpy(split.images).permute(0, 3, 1, 2).contiguous()
        return cls(images.to(device), labels, view_side(recipe), split.fingerprint)

    @property
    def device(self) -> torch.device:
        """The device of the labels and the rendered pixels."""
        return self.labels.device

    @property
    def index_device(self) -> torch.device:
        """The device of the images, and so of the indices and rows that choose their views; that of encoded ones is the CPU.

        A number read from a GPU would come only after the training steps that are queued there.
        """
        return self.images.device if isinstance(self.images, Tensor) else torch.device("cpu")

    @property
    def resident(self) -> bool:
        """Whether the images are on a GPU, which renders large batches with few kernels."""
        return self.device.type == "cuda" and isinstance(self.images, Tensor)

    @property
    def prefetch_depth(self) -> int:
        """The number of batches to render ahead in a thread.

        Encoded images are always prefetched, since they are read from disk; images in memory only if a processor is idle, and
        images on a GPU never.
        """
        if isinstance(self.images, EncodedImages):
            return 2
        return 2 if not self.resident and idle_processors() else 0

    @property
    def channels(self) -> int:
        """The number of channels of every image."""
        return self.images.channels if isinstance(self.images, EncodedImages) else int(self.images.shape[1])

    def __len__(self) -> int:
        return len(self.labels)

    def view_rows(self, plan: ViewPlan, view: int, part: slice) -> tuple[Tensor, Tensor]:
        """The samples of a range, int64 (B,), and their rows of integers (B, p) under one view, on the index device."""
        chosen = torch.arange(len(self))[part].to(self.index_device)
        return chosen, torch.from_numpy(plan.parameters(view, part)).to(self.index_device)

    def pixels(self, plan: ViewPlan, chosen: Tensor, rows: Tensor) -> Tensor:
        """Render samples, int64 (B,), by their rows of integers (B, p): float32 (B, C, H, W) in [0, 1]."""
        chosen, rows = chosen.to(self.index_device), rows.to(self.index_device)
        return self._to_device(self._in_parts(lambda part: self._render(plan, chosen[part], rows[part]), len(chosen)))

    def _render(self, plan: ViewPlan, chosen: Tensor, rows: Tensor) -> Tensor:
        partners = plan.partners(rows)
        return plan.render(self._take(chosen), rows, None if partners is None else self._take(partners))

    def targets(self, plan: ViewPlan, chosen: Tensor, rows: Tensor, classes: int) -> Tensor:
        """The labels of the rendered pictures: int64 (B,), or the share of each class (B, K) if two samples are mixed."""
        chosen, rows = chosen.to(self.device), rows.to(self.device)
        labels, partners = self.labels[chosen], plan.partners(rows)
        if partners is None:
            return labels
        return mixture(labels, self.labels[partners], plan.shares(rows, self.size), classes)

    def evaluation_pixels(self, part: slice | Tensor) -> Tensor:
        """Samples for evaluation, float32 (B, C, H, W) in [0, 1]: unchanged, or their centre crops if a side is set.

        `part` is a range, or int64 (B,) on the device.
        """
        if isinstance(self.images, Tensor):
            shown = self._centred(self.images[part])
        else:
            chosen = torch.arange(len(self))[part if isinstance(part, slice) else part.cpu()]
            shown = self._in_parts(lambda some: self._centred(self._take(chosen[some])), len(chosen))
        return unit_range(self._to_device(shown))

    def _centred(self, images: Tensor | list[DecodedImage]) -> Tensor:
        if self.side:
            # Imported here: it imports torchvision's transforms, which take more than a second.
            from prepkd.views.centre_crop import centre_crop

            images = centre_crop(images, self.side)
        assert isinstance(images, Tensor)
        return images

    def _to_device(self, pixels: Tensor) -> Tensor:
        """Copy a whole batch; the copy to a GPU is queued like a kernel, from memory that the GPU reads itself."""
        if self.device.type == "cuda" and not pixels.is_cuda:
            return pixels.pin_memory().to(self.device, non_blocking=True)
        return pixels.to(self.device)

    def _in_parts(self, render: Callable[[slice], Tensor], count: int) -> Tensor:
        """Render `count` samples at once, or in parts on all processors if they must be decoded first."""
        if isinstance(self.images, Tensor):
            return render(slice(None))
        parts = (slice(start, start + IMAGES_PER_TASK) for start in range(0, count, IMAGES_PER_TASK))
        return torch.cat(list(threaded(render, parts, initializer=compute_on)))

    def _take(self, chosen: Tensor) -> Tensor | list[DecodedImage]:
        if isinstance(self.images, Tensor):
            return self.images[chosen]
        return self.images.decode(chosen.tolist())

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the rendered pictures."""
        if self.side:
            return self.side, self.side
        assert isinstance(self.images, Tensor)
        height, width = self.images.shape[-2:]
        return height, width

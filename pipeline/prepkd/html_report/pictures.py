"""Small pictures of samples as data URIs: bounded in size, so that a page of them stays small."""

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image
from torch import Tensor

from prepkd.data.samples.samples import Samples
from prepkd.views import ViewPlan

MAX_SIDE = 96  # pixels; a PNG of this size has at most 28 kB


def view_pictures(samples: Samples, plan: ViewPlan, rows: Sequence[tuple[int, int]]) -> list[str]:
    """Render (view, sample) pairs as the student sees them, one PNG each as a data URI."""
    return [
        data_uri(samples.pixels(plan, *samples.view_rows(plan, view, slice(one, one + 1)))[0]) for view, one in rows
    ]


def data_uri(pixels: Tensor) -> str:
    """Encode a picture (C, H, W) in [0, 1] as a PNG of at most 96 pixels per side; unless C is 3, only the first channel."""
    shown = pixels if pixels.shape[0] == 3 else pixels[:1]
    array = (shown.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(array.squeeze(-1) if array.shape[-1] == 1 else array))
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    content = BytesIO()
    picture.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()

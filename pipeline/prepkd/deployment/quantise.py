"""Static quantisation to int8 with ONNX Runtime, calibrated on training images.

Four causes of collapsed int8 students, and their remedies here. Batch norm and depthwise convolutions leave channels of very
different ranges, which one scale per layer cannot represent: norms are folded first, and every channel has its own scale.
Outlier activations stretch a layer's scale: ranges are calibrated in two ways, and judged on other training images. Products of
8 x 8 bits saturate on processors without VNNI, so that results depend on the processor: weights have 7 bits. A bias overflows
int32 behind a channel of tiny weights: ONNX Runtime enlarges that channel's scale.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from prepkd.deployment.onnx_file import IMAGES
from prepkd.errors import InputError

if TYPE_CHECKING:
    from onnx import ModelProto

# Methods to calibrate activation ranges on batches of images, as ONNX Runtime's options.
METHODS: dict[str, dict[str, Any]] = {
    "min-max": {},
    "mean of the batches' min-max": {"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.1},
}
OPTIONS = {"WeightSymmetric": True, "ActivationSymmetric": False}


@dataclass(frozen=True)
class Int8:
    """Settings: the number of training images to calibrate on, and the largest accepted loss of top-1 in percentage points."""

    images: int = 512
    max_drop: float = 1.0

    def __post_init__(self) -> None:
        if self.images < 2:
            raise InputError(f"--calibration-images is {self.images}; expected at least 2")
        if not 0 <= self.max_drop <= 100:
            raise InputError(f"--max-drop is {self.max_drop:g}; expected 0 to 100 percentage points")


def chosen_images(count: int, of: int) -> tuple[Tensor, Tensor]:
    """Draw random training samples to calibrate on, and as many others to judge on, at most half of all each; int64 indices."""
    drawn = torch.randperm(of, generator=torch.Generator().manual_seed(0))
    half = min(count, of // 2)
    return drawn[:half].sort().values, drawn[half : 2 * half].sort().values


def quantised(
    model: "ModelProto", batches: Sequence[Tensor], error: Callable[["ModelProto"], float]
) -> tuple["ModelProto", str, dict[str, float]]:
    """Quantise a model of float images, calibrated on batches of them; also return the chosen method and every method's error.

    The method with the smallest `error` is chosen; `error` must not use the test set.
    """
    with tempfile.TemporaryDirectory() as folder:
        folded = _folded(model, Path(folder))
        models = {name: _quantised(folded, Path(folder), batches, own) for name, own in METHODS.items()}
    errors = {name: error(one) for name, one in models.items()}
    best = min(errors, key=errors.__getitem__)
    return models[best], best, errors


def refuse_drop(before: float, after: float, settings: Int8, count: int) -> None:
    """Raise InputError if top-1 falls by more than the settings accept."""
    if not 100 * (before - after) <= settings.max_drop:
        raise InputError(
            f"int8: top-1 falls from {before:.2%} to {after:.2%} on {count:,} test images; expected a loss of at most "
            f"{settings.max_drop:g} percentage points; nothing was exported: raise --max-drop or --calibration-images, or "
            "export without --int8"
        )


def _folded(model: "ModelProto", folder: Path) -> Path:
    """Fold batch norms into the convolutions, and infer the shapes of all tensors; return the file."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    given, folded = folder / "model.onnx", folder / "folded.onnx"
    given.write_bytes(model.SerializeToString())
    quant_pre_process(str(given), str(folded), skip_symbolic_shape=True)
    return folded


def _quantised(folded: Path, folder: Path, batches: Sequence[Tensor], own: dict[str, Any]) -> "ModelProto":
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.remaining: Iterator[Tensor] = iter(batches)

        def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
            batch = next(self.remaining, None)
            return None if batch is None else {IMAGES: batch.contiguous().numpy()}

    path = folder / "int8.onnx"
    quantize_static(
        str(folded),
        str(path),
        Batches(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options=OPTIONS | own,
    )
    return onnx.load(str(path))

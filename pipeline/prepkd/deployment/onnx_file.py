"""An exported ONNX file: its metadata, and its logits from ONNX Runtime."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from prepkd.deployment.packages import need_packages
from prepkd.errors import InputError, one_line
from prepkd.runtime.files import canonical_json, json_object
from prepkd.settings.section import Section
from prepkd.settings.validation import validated
from prepkd.views.framing import Framing

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

KEY = "prepkd"  # of the file's metadata
IMAGES, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
TYPES = {"tensor(float)": torch.float32, "tensor(uint8)": torch.uint8}
FLOATS = {"tensor(float16)", "tensor(float)", "tensor(double)"}  # of an output; NumPy has no bfloat16
MAX_BYTES = 2**31 - 1  # bytes, of protobuf
HINT = "expected an .onnx file of `prepkd export`"


class About(Section):
    """Facts in an exported file: class names in the order of the logits, size and channels of images, the weights."""

    class_names: Annotated[list[str], Field(min_length=1)]
    evaluation: Framing
    in_channels: Annotated[int, Field(ge=1)]
    weights_fingerprint: str

    def as_text(self) -> str:
        """As JSON text for the file's metadata."""
        return canonical_json(self.model_dump(mode="json"))


@dataclass(frozen=True)
class OnnxClassifier:
    """An ONNX file of `prepkd export` in ONNX Runtime, on the CPU: images uint8 or float in [0, 1], to logits."""

    session: "InferenceSession"
    about: About
    dtype: torch.dtype
    path: Path

    @classmethod
    def open(cls, path: Path, *, threads: int | None = None) -> "OnnxClassifier":
        """Open a file; raises InputError for one that is missing or damaged, or that `prepkd export` did not write.

        `threads` is the number of threads; None keeps ONNX Runtime's default.
        """
        need_packages("onnxruntime")
        if not path.is_file():
            raise InputError(f"{path}: no such file; {HINT}")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise InputError(f"{path}: has {size:,} bytes; {HINT}, of at most {MAX_BYTES:,}")
        session = _session(path, threads)
        about = _about(session.get_modelmeta().custom_metadata_map, path)
        inputs, outputs = session.get_inputs(), {one.name: one.type for one in session.get_outputs()}
        if [one.name for one in inputs] != [IMAGES] or inputs[0].type not in TYPES or LOGITS not in outputs:
            raise InputError(f"{path}: expected one input, {IMAGES}, and the output {LOGITS}; {HINT}")
        for name in (LOGITS, PROBABILITIES):
            if name in outputs and outputs[name] not in FLOATS:
                raise InputError(
                    f"{path}: its output {name} is {outputs[name]}; expected {', '.join(sorted(FLOATS))}; {HINT}"
                )
        return cls(session, about, TYPES[inputs[0].type], path)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return tuple(self.about.class_names)

    @property
    def framing(self) -> Framing:
        """The size of the images."""
        return self.about.evaluation

    @property
    def channels(self) -> int:
        """The number of channels of an image."""
        return self.about.in_channels

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images uint8 or float in [0, 1], (N, C, H, W); raises InputError if they don't fit the graph."""
        logits = self.run(images)[0]
        if logits.shape != (len(images), len(self.class_names)):
            raise InputError(f"{self.path}: its logits have shape {tuple(logits.shape)}; {HINT}")
        return logits

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits, and probabilities if the file has them."""
        from onnxruntime.capi import onnxruntime_pybind11_state as faults

        names = [one.name for one in self.session.get_outputs()]
        asked = [LOGITS, *(one for one in (PROBABILITIES,) if one in names)]
        try:
            found = self.session.run(asked, {IMAGES: self._fed(images).cpu().contiguous().numpy()})
        except (faults.InvalidArgument, faults.RuntimeException, faults.Fail, faults.NotImplemented) as error:
            raise InputError(f"{self.path}: {one_line(error, 300)}; {HINT}") from None
        return tuple(torch.from_numpy(one) for one in found)

    def _fed(self, images: Tensor) -> Tensor:
        """The images in the graph's dtype; float images made from 8 bits give exactly these bytes."""
        if images.dtype == self.dtype:
            return images
        return images.float() / 255 if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)


def _session(path: Path, threads: int | None) -> "InferenceSession":
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its lines on standard error only repeat the exception
    if threads:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    refused = (
        faults.InvalidProtobuf,
        faults.InvalidGraph,
        faults.InvalidArgument,
        faults.NoSuchFile,
        faults.Fail,
        faults.NotImplemented,
        faults.RuntimeException,
    )
    try:
        # From bytes, not the path: an untrusted file may name other files as its weights, which would then be read.
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except refused as error:
        raise InputError(f"{path}: ONNX Runtime can't open it: {one_line(error, 300)}; {HINT}") from None


def _about(metadata: Mapping[str, str], path: Path) -> About:
    try:
        found = json_object(metadata.get(KEY, ""))
    except ValueError:
        raise InputError(f"{path}: its metadata do not name its classes and the size of its images; {HINT}") from None
    return validated(About, found, f"{path}: metadata")

"""Write a classifier in formats of other programs: ONNX, torch.export's archive, safetensors with config.json."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from prepkd.deployment.classifier import Classifier
from prepkd.deployment.onnx_file import IMAGES, KEY, LOGITS, MAX_BYTES, PROBABILITIES, About
from prepkd.errors import InputError
from prepkd.models.checkpoint import EXPORTED_CARD, save_checkpoint
from prepkd.models.user_errors import wrap_user_errors
from prepkd.models.weight_claims import CARD
from prepkd.runtime.files import write_bytes

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.export import ExportedProgram

OPSET = 18  # the first whose Resize can antialias
SAFETENSORS, PROGRAM = "model.safetensors", "model.pt2"
FLOAT_IMAGES, UINT8_IMAGES = "model.onnx", "model-uint8-images.onnx"
STATED = {"class_names", "model"}  # keys of the card that hold names, even if they look like paths
INT8, INT8_UINT8_IMAGES = "model-int8.onnx", "model-int8-uint8-images.onnx"


class WithProbabilities(nn.Module):
    """Images to logits and probabilities, both (N, K)."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities."""
        logits = self.classifier(images)
        return logits, logits.softmax(dim=-1)


def about(classifier: Classifier) -> About:
    """The metadata of an exported ONNX file."""
    return About(
        class_names=list(classifier.class_names),
        evaluation=classifier.framing,
        in_channels=classifier.channels,
        weights_fingerprint=classifier.card["weights_fingerprint"],
    )


def traced(classifier: Classifier) -> "ExportedProgram":
    """Trace the classifier with torch.export, for any number of float images in [0, 1] of the size of its evaluation.

    Raises InputError for a model that torch.export can't trace.
    """
    example = torch.zeros(2, classifier.channels, *classifier.framing.size)
    with wrap_user_errors(
        f"torch.export of {classifier.card['model']!r}", advice="; only models that it traces can be exported"
    ):
        program = torch.export.export(
            WithProbabilities(classifier).eval(),
            (example,),
            dynamic_shapes={IMAGES: {0: torch.export.Dim.DYNAMIC}},
            strict=False,
        )
    for node in program.graph.nodes:  # stack traces hold paths of this machine
        node.meta.pop("stack_trace", None)
    return program


def write_program(folder: Path, program: "ExportedProgram", said: About) -> None:
    """Write torch.export's archive, `model.pt2`; `torch.export.load` runs code of an archive, so load only your own."""
    archive = io.BytesIO()
    torch.export.save(program, archive, extra_files={f"{KEY}.json": said.as_text()})
    write_bytes(folder / PROGRAM, archive.getvalue())


def write_safetensors(folder: Path, classifier: Classifier) -> None:
    """Write `model.safetensors` and the card as `config.json`; `prepkd.load` reads them back, also in another project.

    The card has class names and image size; absolute paths in its settings and inputs are reduced to the file name.
    """
    card = {key: value if key in STATED else without_folders(value) for key, value in classifier.card.items()}
    card |= {"class_names": list(classifier.class_names), "evaluation": classifier.framing.model_dump()}
    save_checkpoint(folder, classifier.model, card)
    (folder / CARD).rename(folder / EXPORTED_CARD)


def without_folders(value: Any) -> Any:
    """Reduce each absolute path in a JSON value to its last name, so that a published folder reveals no local paths.

    >>> without_folders({"weights": "/home/me/best.pt", "data": "data/x.h5", "seeds": [0]})
    {'weights': 'best.pt', 'data': 'data/x.h5', 'seeds': [0]}
    """
    if isinstance(value, dict):
        return {key: without_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_folders(one) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def onnx_model(program: "ExportedProgram", said: About) -> "ModelProto":
    """Convert a traced program to an ONNX model: float images in, logits and probabilities out.

    Raises InputError if torch.onnx can't translate it.
    """
    with wrap_user_errors("torch.onnx.export", advice="; only models that it translates can be exported"):
        converted = torch.onnx.export(
            program,
            input_names=[IMAGES],
            output_names=[LOGITS, PROBABILITIES],
            opset_version=OPSET,
            dynamic_shapes={IMAGES: {0: "batch"}},
            external_data=False,
            verbose=False,
        )
    assert converted is not None
    model = converted.model_proto
    for parts in (model.graph.node, model.graph.value_info, model.graph.initializer, [model.graph]):
        for part in parts:  # they hold source locations
            del part.metadata_props[:]
    return described(model, said)


def described(model: "ModelProto", said: About) -> "ModelProto":
    """Set prepkd as the model's producer, and add the metadata `said`."""
    from onnx import helper

    model.producer_name, model.producer_version = KEY, ""
    helper.set_model_props(model, {KEY: said.as_text()})
    return model


def with_uint8_images(model: "ModelProto") -> "ModelProto":
    """Return a copy that takes uint8 images, with a cast and a division by 255 at the start."""
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for node in graph.node:
        node.input[:] = ["images_in_01" if name == IMAGES else name for name in node.input]
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    graph.initializer.append(numpy_helper.from_array(np.array(255, np.float32), "white"))
    graph.node.insert(0, helper.make_node("Div", ["images_float", "white"], ["images_in_01"], "images_in_01"))
    graph.node.insert(0, helper.make_node("Cast", [IMAGES], ["images_float"], "images_float", to=TensorProto.FLOAT))
    return copy


def write_onnx(path: Path, model: "ModelProto") -> None:
    """Write the model and its weights to one file; raises InputError if it exceeds protobuf's size limit."""
    from onnx import checker

    if (size := model.ByteSize()) > MAX_BYTES:
        raise InputError(f"{path.name}: would have {size:,} bytes; ONNX in one file holds at most {MAX_BYTES:,}")
    checker.check_model(model)
    write_bytes(path, model.SerializeToString())

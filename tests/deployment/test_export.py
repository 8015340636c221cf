"""`prepkd export`: every format gives the student's logits, or nothing is written."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import prepkd
import pytest
import torch
from commands import ROOT, enter, invoke
from deployed import CPU, Project, make_project, saved
from huggingface_hub import ModelCard
from prepkd.data.prepared.file import load_split
from prepkd.deployment import export as export_module
from prepkd.deployment.export import Options, export, top1_over_seeds
from prepkd.deployment.onnx_file import OnnxClassifier
from prepkd.deployment.predict import Prediction, open_model, predict_images
from prepkd.deployment.quantise import Int8
from prepkd.errors import InputError
from prepkd.models import load_checkpoint, save_checkpoint
from prepkd.models.checkpoint import load_card
from torch import nn

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("one_thread")
FLOAT = ("model.safetensors", "model.pt2", "model.onnx", "model-uint8-images.onnx")
INT8 = ("model-int8.onnx", "model-int8-uint8-images.onnx")


def exported_to(target: Path, project: Project, *, student: Path | None = None, **given: Any) -> dict[str, Any]:
    options = Options(**{"budget": 0.0} | given)
    return export(student or project.student, target, project.data, options, lambda line: None)


@pytest.fixture(scope="module")
def folder(digits: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the student in all formats."""
    target = tmp_path_factory.mktemp("exports") / "digits-student"
    exported_to(target, digits, int8=Int8())
    return target


def test_every_format_is_the_student(folder: Path, digits: Project) -> None:
    assert {one.name for one in folder.iterdir()} == {*FLOAT, *INT8, "config.json", "check.json", "README.md"}
    checks = json.loads((folder / "check.json").read_text())
    labels = digits.dataset.held_out["test"].labels
    top1 = (digits.logits.argmax(dim=1) == labels).double().mean().item()
    assert checks["student"]["top1"] == pytest.approx(top1) == pytest.approx(digits.card()["test_top1"])
    assert list(checks["formats"]) == sorted(checks["formats"]) and set(checks["formats"]) == {*FLOAT, *INT8}
    for name in FLOAT:
        one = checks["formats"][name]
        assert one["max_difference"] < 1e-4 and one["agreement"] == 1 and one["top1"] == checks["student"]["top1"], name
    assert checks["formats"]["model.safetensors"]["max_difference"] == 0
    for name in INT8:
        assert abs(checks["formats"][name]["top1"] - top1) <= 0.01, name
    assert checks["formats"][INT8[0]]["max_difference"] > 0.01, "not quantised"
    for name, one in checks["formats"].items():
        assert one["bytes"] == (folder / name).stat().st_size
        for spent in one["latency"].values():
            assert 0 < spent["low_ms"] <= spent["median_ms"] <= spent["high_ms"] and spent["calls"] >= 15
    assert checks["latency_settings"]["threads"] == 1 and set(checks["int8"]["mean_squared_errors"]) > {"min-max"}


def test_onnx_runtime_alone_gets_logits_and_probabilities(folder: Path, digits: Project) -> None:
    """Without prepkd, the ONNX files take any number of float or uint8 images and give the student's outputs."""
    import onnxruntime

    images = load_split(digits.data, "test").images.transpose(0, 3, 1, 2)
    for name, fed in (
        ("model.onnx", (images / np.float32(255)).astype(np.float32)),
        ("model-uint8-images.onnx", images),
    ):
        session = onnxruntime.InferenceSession(str(folder / name))
        for count in (1, 2, 7, len(images)):
            logits, shares = session.run(["logits", "probabilities"], {"images": np.ascontiguousarray(fed[:count])})
            np.testing.assert_allclose(logits, digits.logits[:count].numpy(), atol=1e-4)
            np.testing.assert_allclose(shares, digits.logits[:count].softmax(dim=1).numpy(), atol=1e-5)


def test_each_channel_of_int8_weights_has_its_own_scale(folder: Path) -> None:
    """Weight scales are per channel, and batch norms are folded into the convolutions."""
    import onnx

    graph = onnx.load(folder / INT8[0]).graph
    lengths = {tuple(one.dims) for one in graph.initializer if one.name.endswith("_scale")}
    assert {(8,), (16,)} <= lengths, lengths  # of both convolutions
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


def test_the_archive_of_torch_export_loads(folder: Path, digits: Project) -> None:
    logits, shares = torch.export.load(folder / "model.pt2").module()(
        digits.dataset.held_out["test"].evaluation_pixels(slice(0, 5))
    )
    torch.testing.assert_close(logits, digits.logits[:5])
    torch.testing.assert_close(shares, logits.softmax(dim=1))


def test_predictions_are_those_of_the_student(folder: Path, digits: Project, tmp_path: Path) -> None:
    """The export folder and each float ONNX file predict the student's logits."""
    images = load_split(digits.data, "test").images[:70]
    files = [saved(tmp_path / f"{i}.png", image) for i, image in enumerate(images)]
    for model in (folder, folder / "model.onnx", folder / "model-uint8-images.onnx"):
        found = [
            one for one in predict_images(open_model(model, CPU), files, CPU, top=1) if isinstance(one, Prediction)
        ]
        torch.testing.assert_close(torch.stack([one.logits for one in found]), digits.logits[:70])
    card = digits.card()
    assert load_card(folder) == card | {"inputs": card["inputs"] | {"data": "digits.h5"}}
    assert prepkd.load(folder).class_names == digits.dataset.class_names


def test_no_file_holds_a_path_of_this_machine(folder: Path, digits: Project) -> None:
    """No exported file holds a path of the traced code or of the project."""
    for one in folder.iterdir():
        content = one.read_bytes()
        for path in (b"site-packages", b"/deployment/", *(str(one).encode() for one in (ROOT, folder, digits.folder))):
            assert path not in content, (one.name, path)


def test_the_model_card_is_the_hubs(folder: Path, digits: Project) -> None:
    text = (folder / "README.md").read_text()
    card = ModelCard(text)
    checks = json.loads((folder / "check.json").read_text())
    [result] = card.data.eval_results
    assert (result.metric_type, result.dataset_name) == ("accuracy", "digits")
    assert result.metric_value == pytest.approx(checks["student"]["top1"], abs=1e-6)
    assert card.data.library_name == "prepkd" and card.data.license is None and card.data.datasets is None
    assert card.data.pipeline_tag == "image-classification" and "knowledge-distillation" in card.data.tags
    for name, one in checks["formats"].items():
        assert f"| `{name}` | {one['bytes']:,} |" in text
    assert "Evaluated on images of 8 x 8 pixels; others are resized to cover that" in text
    assert "0 0, 1 1, 2 2, 3 3" in text, "classes by their index"
    assert checks["data"]["dataset_fingerprint"] in text and f"{checks['student']['parameters']:,} parameters" in text


def test_the_pages_python_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["logits"].shape == found["probabilities"].shape == (1, 10)


HOSTILE = "</script> | <img src=x> `b`\n# [a](javascript:x) \x1b[2J"


def test_names_from_elsewhere_are_text_in_the_card(folder: Path, digits: Project) -> None:
    from prepkd.deployment.model_card import code, model_card

    checks = json.loads((folder / "check.json").read_text())
    checks["data"]["dataset"] = HOSTILE
    card = digits.card() | {"class_names": [HOSTILE] * 10, "model": HOSTILE, "training": {"method": HOSTILE}}
    card["inputs"] = card["inputs"] | {"teacher": {HOSTILE: {"teacher": HOSTILE}}}
    text = model_card(checks, card, "name", "mit")
    page = text.split("\n---\n", 1)[1].replace(code(HOSTILE[:12]), "")  # markup in a code span is harmless
    assert "\x1b" not in text and "\n# [a]" not in text
    for part in ("<img", "</script>", "[a", "](java"):
        assert not re.search(rf"(?<!\\){re.escape(part)}", page), part
    assert ModelCard(text).data.eval_results[0].dataset_name == HOSTILE


@pytest.mark.parametrize("method", ["ce", "lsr"])
def test_a_student_without_a_teacher_is_not_called_distilled(method: str, folder: Path, digits: Project) -> None:
    from prepkd.deployment.model_card import model_card

    checks = json.loads((folder / "check.json").read_text())
    card = digits.card()
    taught = model_card(checks, card | {"training": {"method": "kd"}}, "name", None)
    assert "distilled by prepkd with the method kd" in taught
    for teacher in ({"teacher": None}, {}):
        inputs = {key: value for key, value in card["inputs"].items() if key != "teacher"} | teacher
        text = model_card(checks, card | {"training": {"method": method}, "inputs": inputs}, "name", None)
        assert f", trained by prepkd with the method {method}:" in text
        assert "knowledge-distillation" not in ModelCard(text).data.tags
        assert "distilled" not in text


def test_one_seed_has_no_mean_over_seeds(folder: Path, digits: Project) -> None:
    from prepkd.deployment.model_card import model_card

    checks = json.loads((folder / "check.json").read_text())
    for count, std, said in ((1, None, ""), (2, 0.01, " (over 2 seeds: 50.00% +- 1.00%)")):
        checks["student"] |= {"top1": 0.5, "seeds": {"n": count, "mean": 0.5, "std": std}}
        text = model_card(checks, digits.card(), "name", None)
        assert f"Test top-1 50.00% on 896 images{said}. " in text


@pytest.fixture
def here(digits: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        export_module, "timed", lambda runs, *_: {name: export_module.Latency(1, 1, 1, 1) for name in runs}
    )
    return enter(tmp_path, monkeypatch)


def test_the_command(here: Path, digits: Project) -> None:
    done = invoke("export", str(digits.student), "--data", str(digits.data), "--license", "cc-by-4.0")
    assert done.exit_code == 0, done.output
    assert "model.onnx" in done.stdout and "exports/student-seed0: checked on 896 test images" in done.stderr
    page = Path("exports/student-seed0/README.md")
    assert "license: cc-by-4.0" in page.read_text() and not Path("exports/student-seed0/model-int8.onnx").exists()
    page.write_text(page.read_text() + "my own words\n")
    again = "export", str(digits.student), "--data", str(digits.data)
    assert "--replace replaces it" in (said := invoke(*again)).output and said.exit_code == 2
    assert "my own words" in page.read_text()
    done = invoke(*again, "--replace", "--json")
    assert done.exit_code == 0 and set(json.loads(done.stdout)["formats"]) == set(FLOAT)
    assert "my own words" not in page.read_text()
    (page.parent / "thesis.docx").touch()
    done = invoke(*again, "--replace")
    assert done.exit_code == 2 and "holds thesis.docx, which is no file that prepkd wrote" in done.output


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "-x", "a b"])
def test_a_strange_name_is_refused(name: str, here: Path, digits: Project) -> None:
    done = invoke("export", str(digits.student), "--data", str(digits.data), f"--name={name}")
    assert done.exit_code == 2 and done.output.startswith("error: the export's name is"), done.output
    assert list(here.iterdir()) == []


def test_without_the_extra_one_line_says_so(here: Path, digits: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from prepkd.deployment import packages

    monkeypatch.setattr(packages, "find_spec", lambda name: None if name.startswith("onnx") else True)
    for command in (["export", str(digits.student)], ["predict", "x.png", "--model", "x.onnx"]):
        done = invoke(*command)
        assert done.exit_code == 2 and done.output.count("\n") == 1, done.output
        assert "pip install 'prepkd[export]'" in done.output


def test_other_data_is_refused(here: Path, digits: Project) -> None:
    card = digits.card()
    shutil.copytree(digits.student, here / "other")
    model, _ = load_checkpoint(digits.student)
    save_checkpoint(here / "other", model, card | {"inputs": card["inputs"] | {"dataset_fingerprint": "0" * 64}})
    with pytest.raises(InputError, match=r"inputs.dataset_fingerprint is 000000000000"):
        exported_to(here / "exports/x", digits, student=here / "other")
    with pytest.raises(InputError, match=r"gone.h5: no such file"):
        export(digits.student, here / "exports/x", Path("gone.h5"), Options(), lambda line: None)
    assert not (here / "exports").exists()


def altered(digits: Project, folder: Path, change: Any) -> Path:
    """Save the student with changed weights under its old card."""
    model, card = load_checkpoint(digits.student)
    with torch.no_grad():
        change(model.body)
    save_checkpoint(folder, model, card)
    return folder


def an_outlier(body: Any) -> None:
    """Scale up a channel that no logit uses: its values are 10^7 times the others' and take the layer's whole int8 range."""
    body.bn2.weight[0] *= 1e7
    body.bn2.bias[0] = 1e7
    body.fc.weight[:, 0] = 0


def test_an_int8_student_that_collapses_is_refused(here: Path, digits: Project) -> None:
    exported_to(here / "exports/x", digits)
    before = {one.name: one.read_bytes() for one in (here / "exports/x").iterdir()}
    with pytest.raises(
        InputError, match=r"int8: top-1 falls from \d+\.\d\d% to \d+\.\d\d% on 896 test images"
    ) as caught:
        exported_to(here / "exports/x", digits, student=altered(digits, here / "student", an_outlier), int8=Int8(64))
    assert "\n" not in str(caught.value)
    assert {one.name: one.read_bytes() for one in (here / "exports/x").iterdir()} == before
    assert [one.name for one in (here / "exports").iterdir()] == ["x"]


def rescaled(body: nn.Module) -> None:
    """Scale the convolutions' channels by factors that differ by up to 10^6, and undo it in batch norm."""
    for conv, norm in ((body.conv1, body.bn1), (body.conv2, body.bn2)):
        factors = torch.logspace(-3, 3, conv.weight.shape[0])
        conv.weight *= factors.view(-1, 1, 1, 1)
        norm.running_mean *= factors
        norm.running_var.copy_((norm.running_var + norm.eps) * factors**2 - norm.eps)


def test_channels_of_very_different_ranges_do_not_collapse(here: Path, digits: Project) -> None:
    checks = exported_to(here / "exports/x", digits, student=altered(digits, here / "student", rescaled), int8=Int8(64))
    assert checks["student"]["top1"] == pytest.approx(digits.card()["test_top1"], abs=0.005)
    assert abs(checks["int8"]["top1_after"] - checks["int8"]["top1_before"]) <= 0.01


def a_dead_channel(body: Any) -> None:
    """Give a channel tiny weights and a large bias: the weights' scale would overflow the int32 bias."""
    body.conv2.weight[0] *= 1e-12
    body.bn2.running_mean[0] = 0
    body.bn2.bias[0] = 5


def test_a_dead_channel_with_a_bias_does_not_collapse(here: Path, digits: Project) -> None:
    student = altered(digits, here / "student", a_dead_channel)
    checks = exported_to(here / "exports/x", digits, student=student, int8=Int8(64, 100))
    assert checks["int8"]["top1_before"] - checks["int8"]["top1_after"] <= 0.02


def test_a_format_that_differs_is_refused(here: Path, digits: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from prepkd.deployment import formats

    true = formats.with_uint8_images

    def wrong(model: Any) -> Any:
        copy = true(model)
        next(one for one in copy.graph.initializer if one.name == "white").CopyFrom(
            __import__("onnx").numpy_helper.from_array(np.float32(256), "white")
        )
        return copy

    monkeypatch.setattr(formats, "with_uint8_images", wrong)
    with pytest.raises(InputError, match=r"model-uint8-images.onnx: its logits differ from the student's by up to"):
        exported_to(here / "exports/x", digits)
    assert not (here / "exports/x").exists() and list((here / "exports").iterdir()) == []


@pytest.mark.parametrize(("size", "interpolation"), [(5, "bicubic"), (20, "bilinear")])
def test_a_models_own_resizing_is_in_the_graph(here: Path, digits: Project, size: int, interpolation: str) -> None:
    model, card = load_checkpoint(digits.student)
    from dataclasses import replace

    from prepkd.models import Normalised

    other = Normalised(model.body, replace(model.preprocessing, size=size, interpolation=interpolation)).eval()
    save_checkpoint(here / "student", other, card)
    checks = exported_to(here / "exports/x", digits, student=here / "student")
    assert checks["formats"]["model.onnx"]["agreement"] == 1


def test_metrics_over_the_seeds_must_be_possible(digits: Project, tmp_path: Path) -> None:
    path, card = tmp_path / "metrics.json", digits.card()
    card["training"] = card["training"] | {"seeds": 3}

    def asked(**top1: Any) -> Any:
        path.write_text(json.dumps({"n": 3, "top1": top1}))
        return top1_over_seeds(path, card, 0.90)

    assert asked(mean=0.91, std=0.01) == {"mean": 0.91, "std": 0.01, "n": 3}
    assert asked(mean=0.95, std=0.01) is None  # with std 0.01, none of three values is 0.05 from the mean
    card["training"]["seeds"] = [0, 1]
    assert asked(mean=0.91, std=0.01) is None
    for text in (
        "",
        "[]",
        "{}",
        '{"n": 0, "top1": {"mean": 1, "std": 1}}',
        '{"n": "x", "top1": {"mean": 1, "std": 1}}',
    ):
        path.write_text(text)
        assert top1_over_seeds(path, card, 0.9) is None
    assert top1_over_seeds(tmp_path / "gone", card, 0.9) is None


def test_strange_onnx_files_are_one_line(folder: Path, here: Path) -> None:
    import onnx
    from onnx import helper

    whole = (folder / "model.onnx").read_bytes()

    def with_props(props: dict[str, str]) -> bytes:
        model = onnx.load_from_string(whole)
        helper.set_model_props(model, props)
        return model.SerializeToString()

    def with_external_weights() -> bytes:
        model = onnx.load_from_string(whole)
        weight = next(one for one in model.graph.initializer if one.raw_data)
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="/etc/hostname")
        weight.ClearField("raw_data")
        return model.SerializeToString()

    def with_logits(node: str, make: Callable[..., onnx.ValueInfoProto], kind: int, **options: int) -> bytes:
        images = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [None, 1, 8, 8])
        nodes = [helper.make_node(node, ["images"], ["logits"], **options)]
        graph = helper.make_graph(nodes, "graph", [images], [make("logits", kind, None)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {"prepkd": json.dumps(about)})
        return model.SerializeToString()

    about = json.loads({one.key: one.value for one in onnx.load_from_string(whole).metadata_props}["prepkd"])
    tensor = helper.make_tensor_value_info
    files = {
        "empty": b"",
        "garbage": b"\xff" * 100,
        "cut": whole[: len(whole) // 2],
        "text": b"no model",
        "without": with_props({}),
        "no json": with_props({"prepkd": "{"}),
        "deep": with_props({"prepkd": "[" * 100_000}),
        "a list": with_props({"prepkd": "[1]"}),
        "too few classes": with_props({"prepkd": json.dumps(about | {"class_names": ["a"]})}),
        "no size": with_props({"prepkd": json.dumps(about | {"evaluation": {"height": 0, "width": 8}})}),
        "other size": with_props({"prepkd": json.dumps(about | {"evaluation": {"height": 9, "width": 8}})}),
        "external": with_external_weights(),
        "bfloat16": with_logits("Cast", tensor, onnx.TensorProto.BFLOAT16, to=onnx.TensorProto.BFLOAT16),
        "words": with_logits("Cast", tensor, onnx.TensorProto.STRING, to=onnx.TensorProto.STRING),
        "a sequence": with_logits("SequenceConstruct", helper.make_tensor_sequence_value_info, onnx.TensorProto.FLOAT),
    }
    image = saved(here / "a.png", np.zeros((8, 8), np.uint8))
    for name, content in files.items():
        path = here / f"{name}.onnx"
        path.write_bytes(content)
        done = invoke("predict", str(image), "--model", str(path))
        assert done.exit_code == 2 and done.output.startswith(f"error: {path}: "), (name, done.output, done.exception)
        assert done.output.count("\n") == 1, (name, done.output)
    assert OnnxClassifier.open(folder / "model.onnx").channels == 1


@pytest.mark.parametrize(("model", "int8"), [("mobilenetv2", Int8(4, 100)), ("shufflenetv1", None)])
def test_other_architectures_export(model: str, int8: Int8 | None, here: Path) -> None:
    """Depthwise and grouped convolutions and channel shuffles export; the models trained for two steps on noise."""
    for split, count in (("train", 4), ("test", 3)):
        for label in ("ant", "bée"):
            for i in range(count):
                pixels = np.random.Generator(np.random.Philox(i)).integers(256, size=(32, 32, 3), dtype=np.uint8)
                saved(here / f"raw/{split}/{label}/{i}.png", pixels)
    made = make_project(here, "folder", here / "raw", model=model, steps=2)
    checks = exported_to(here / "exports/x", made, int8=int8)
    assert all(checks["formats"][name]["agreement"] == 1 for name in FLOAT)

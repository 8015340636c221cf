"""The model card of an exported folder: README.md with Hugging Face Hub metadata, all from measured figures."""

import io
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from prepkd.deployment.formats import FLOAT_IMAGES, PROGRAM, SAFETENSORS
from prepkd.display.text import counted, printable

# Names of data sets on the Hub; other data sets have none.
HUB_NAMES = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100", "tiny-imagenet": "zh-plus/tiny-imagenet"}
MAX_CLASSES = 50  # class names shown on the page
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#!|~&$^:@])")


def model_card(checks: Mapping[str, Any], card: Mapping[str, Any], name: str, licence: str | None) -> str:
    """The page for an exported folder `name`, from its check.json and the student's card; `licence` as the Hub names it."""
    front = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.dump(metadata(checks, card, name, licence), front)
    parts = [
        f"---\n{front.getvalue()}---",
        f"# {escaped(name)}",
        _what(checks, card),
        "## Use\n\n" + _use(card, checks),
        "## Measured\n\n" + _measured(checks),
        "## Made from\n\n" + _made_from(checks, card),
        "## Classes\n\n" + _classes(card["class_names"]),
        "## Limits\n\n" + _limits(checks, card),
    ]
    return "\n\n".join(parts) + "\n"


def metadata(checks: Mapping[str, Any], card: Mapping[str, Any], name: str, licence: str | None) -> dict[str, Any]:
    """The Hub's metadata; licence and data set are left out if they are not known."""
    dataset = str(checks["data"]["dataset"])
    method = method_of(card)
    found: dict[str, Any] = {"library_name": "prepkd", "pipeline_tag": "image-classification"}
    if licence:
        found["license"] = licence
    taught = ["knowledge-distillation", *method.split("+")] if method and teachers_of(card) else []
    found["tags"] = ["image-classification", "onnx", "pytorch", *taught]
    if dataset in HUB_NAMES:
        found["datasets"] = [HUB_NAMES[dataset]]
    found["metrics"] = ["accuracy"]
    found["model-index"] = [
        {
            "name": name,
            "results": [
                {
                    "task": {"type": "image-classification", "name": "Image classification"},
                    "dataset": {"name": dataset, "type": HUB_NAMES.get(dataset, dataset), "split": "test"},
                    "metrics": [{"type": "accuracy", "name": "top-1", "value": round(checks["student"]["top1"], 6)}],
                }
            ],
        }
    ]
    return found


def method_of(card: Mapping[str, Any]) -> str | None:
    """The method of a student; None for a teacher that was trained with labels."""
    method = card.get("training", {}).get("method")
    return method if isinstance(method, str) else None


def teachers_of(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a student's teachers were made from, by name; empty for a model without a teacher, as a student of `ce` is."""
    teachers = card.get("inputs", {}).get("teacher")
    return teachers if isinstance(teachers, dict) else {}


def escaped(text: object) -> str:
    r"""Escape text from elsewhere for Markdown, on one line.

    >>> escaped("a|b <i> `c`")
    'a\\|b \\<i\\> \\`c\\`'
    """
    return _MARKUP.sub(r"\\\1", printable(str(text)))


def code(text: object) -> str:
    """Format text from elsewhere as a code span, in which nothing is markup."""
    return "`" + printable(str(text)).replace("`", "'") + "`"


def _what(checks: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    data, method = checks["data"], method_of(card)
    size = f"{card['evaluation']['height']} x {card['evaluation']['width']}"
    # `prepkd.save` writes no training settings, since it does not know the loop.
    how = ", trained by prepkd" if "training" in card else ", trained in a loop outside prepkd"
    verb = "distilled" if teachers_of(card) else "trained"
    taught = f", {verb} by prepkd with the method {escaped(method)}" if method else how
    return (
        f"{escaped(card['model'])} for {card['num_classes']} classes of {escaped(data['dataset'])}{taught}: images of {size} "
        f"pixels and {counted(card['in_channels'], 'channel')}, "
        f"{checks['student']['parameters']:,} parameters. Test top-1 {checks['student']['top1']:.2%} on {data['samples']:,} "
        f"images{_seeds(checks)}. {framing_text(card['evaluation'])}"
    )


def framing_text(evaluation: Mapping[str, Any]) -> str:
    """Describe how images of any size become those that the model was evaluated on.

    >>> framing_text({"height": 224, "width": 224, "resize": 256})
    'Evaluated on the middle 224 x 224 pixels of images whose shorter side is resized to 256.'
    """
    size, resize = f"{evaluation['height']} x {evaluation['width']}", evaluation.get("resize")
    if resize is not None:
        return f"Evaluated on the middle {size} pixels of images whose shorter side is resized to {resize}."
    return f"Evaluated on images of {size} pixels; others are resized to cover that, and their middle is used."


def _seeds(checks: Mapping[str, Any]) -> str:
    over = checks["student"].get("seeds")
    if not over or over["n"] == 1:  # the mean is the figure before it
        return ""
    spread = "" if over["std"] is None else f" +- {over['std']:.2%}"
    return f" (over {over['n']} seeds: {over['mean']:.2%}{spread})"


def _use(card: Mapping[str, Any], checks: Mapping[str, Any]) -> str:
    height, width, channels = card["evaluation"]["height"], card["evaluation"]["width"], card["in_channels"]
    files = ", ".join(f"`{name}`" for name in checks["formats"])
    return (
        f"Every file contains the preprocessing: give images as they are, uint8 or float in [0, 1], (N, {channels}, {height}, "
        f"{width}). Files: {files}. Those named `uint8-images` take uint8, the other ONNX files float.\n\n"
        "```python\n"
        "import numpy, onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{FLOAT_IMAGES}")\n'
        f"images = numpy.zeros((1, {channels}, {height}, {width}), numpy.float32)\n"
        'logits, probabilities = session.run(["logits", "probabilities"], {"images": images})\n'
        "```\n\n"
        f'With prepkd, `prepkd predict photo.jpg --model .` takes image files of any size, and `prepkd.load(".")` reads '
        f"`{SAFETENSORS}` as a PyTorch module. `{PROGRAM}` is an archive of `torch.export`: `torch.export.load` can run code "
        "that an archive contains, so load it only if you trust where it came from; the other files hold no code."
    )


def _measured(checks: Mapping[str, Any]) -> str:
    rows = [
        "| file | size, bytes | max. logit difference | same class | test top-1 | ms, batch 1 | ms, batch 64 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in checks["formats"].items():
        cells = [f"{one['bytes']:,}", f"{one['max_difference']:.2g}", f"{one['agreement']:.2%}", f"{one['top1']:.2%}"]
        cells += [_time(one["latency"].get(batch)) for batch in ("1", "64")]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    settings = checks["latency_settings"]
    return "\n".join(rows) + (
        f"\n\nAgainst the trained model on all {checks['data']['samples']:,} test images. Times are medians per call with the "
        f"middle 90 %, {counted(settings['threads'], 'thread')}, {escaped(settings['processor'])}. `check.json` has all figures."
        + _int8(checks)
    )


def _int8(checks: Mapping[str, Any]) -> str:
    if not (int8 := checks.get("int8")):
        return ""
    return (
        f"\n\nint8: weights per channel (7 bits of 8, so that no processor saturates), activations of 8 bits, calibrated on "
        f"{int8['calibration_images']:,} training images by {int8['method']}. Test top-1 {int8['top1_before']:.2%} before, "
        f"{int8['top1_after']:.2%} after."
    )


def _time(spent: Mapping[str, float] | None) -> str:
    return "" if spent is None else f"{spent['median_ms']:.3g} ({spent['low_ms']:.3g} to {spent['high_ms']:.3g})"


def _made_from(checks: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    lines = [
        ("data", f"{escaped(checks['data']['dataset'])}, fingerprint {code(checks['data']['dataset_fingerprint'])}"),
        ("weights", f"fingerprint {code(card['weights_fingerprint'])}"),
    ]
    if method := method_of(card):
        lines.append(("method", escaped(method)))
    if isinstance(card.get("seed"), int):
        lines.append(("seed", str(card["seed"])))
    for teacher, prints in teachers_of(card).items():
        known = (
            {key: value for key, value in prints.items() if isinstance(value, str)} if isinstance(prints, dict) else {}
        )
        said = ", ".join(f"{escaped(key)} {code(value[:12])}" for key, value in sorted(known.items()))
        lines.append(("teacher", f"{escaped(teacher)}" + (f"; its store: {said}" if said else "")))
    versions = ", ".join(f"{name} {version}" for name, version in checks["versions"].items())
    lines.append(("versions", escaped(versions)))
    return "\n".join(f"- {key}: {value}" for key, value in lines)


def _classes(names: list[str]) -> str:
    shown = ", ".join(f"{index} {escaped(name)}" for index, name in enumerate(names[:MAX_CLASSES]))
    return shown + (f" and {len(names) - MAX_CLASSES:,} more, in `config.json`" if len(names) > MAX_CLASSES else "")


def _limits(checks: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    return (
        f"The figures hold for the test images of {escaped(checks['data']['dataset'])}. The model knows {card['num_classes']} "
        "classes, and names one of them for any image. Its probabilities are those of the training loss, not calibrated."
    )

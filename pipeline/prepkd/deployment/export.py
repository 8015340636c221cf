"""Export a trained model: every format checked on the whole test set before anything is published."""

import hashlib
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prepkd.data.prepared.file import DataInfo, describe, load_split
from prepkd.data.samples.samples import Samples
from prepkd.deployment import formats
from prepkd.deployment.agreement import Agreement, answers, compare, refuse_differing, samples_of
from prepkd.deployment.classifier import Classifier, load
from prepkd.deployment.latency import BUDGET, WARM_UP, Latency, latencies
from prepkd.deployment.model_card import method_of, model_card
from prepkd.deployment.onnx_file import OnnxClassifier
from prepkd.deployment.packages import need_packages
from prepkd.deployment.quantise import Int8, chosen_images, quantised, refuse_drop
from prepkd.errors import InputError, refuse_differences
from prepkd.runtime.files import atomic_folder, file_sha256, read_object, write_bytes, write_json

BATCHES = (1, 64)
CALIBRATION_BATCH = 16
CHECKS, PAGE = "check.json", "README.md"


@dataclass(frozen=True)
class Options:
    """Formats in addition to float32, and facts of the model card that are not measured."""

    int8: Int8 | None = None
    licence: str | None = None
    details: Path | None = None  # results/details.json of the student's seeds
    budget: float = BUDGET  # seconds to time each format and batch


def export(
    student: Path,
    target: Path,
    data: Path,
    options: Options,
    say: Callable[[str], None],
    *,
    trust_factory: bool = False,
) -> dict[str, Any]:
    """Export a student's or teacher's folder to `target`, which is replaced as a whole; return the content of its check.json.

    `data` is the prepared file that the model was trained on. `say` gets a line per step. Raises InputError, and leaves `target`
    as it was, for files that don't belong together, a model that can't be exported, a format whose logits differ from the
    student's, and an int8 model that loses more top-1 than the options accept.
    """
    need_packages()
    classifier, info = load(student, trust_factory=trust_factory), describe(data)
    found = classifier.card.get("inputs", {}).get("dataset_fingerprint")
    refuse_differences(
        {"inputs.dataset_fingerprint": (found, info.fingerprint)},
        student,
        f"name the data it was trained on, not {data}",
    )
    refuse_differences(
        {"class_names": (list(classifier.class_names), list(info.class_names))}, student, "train it again"
    )
    with one_thread(), atomic_folder(target) as folder:
        checks = _written(classifier, folder, data, info, options, say)
        page = model_card(checks, classifier.card, target.name, options.licence).encode()
        checks["page_sha256"] = hashlib.sha256(page).hexdigest()  # detects a page edited since the export
        write_json(folder / CHECKS, checks)
        write_bytes(folder / PAGE, page)
    return checks


def _written(
    classifier: Classifier, folder: Path, data: Path, info: DataInfo, options: Options, say: Callable[[str], None]
) -> dict[str, Any]:
    """Write all formats into the folder, and check them."""
    test = samples_of(load_split(data, "test"), classifier.framing)
    student = answers(classifier, test)
    before = compare(student, student, test.labels)
    said = formats.about(classifier)
    say(f"test top-1 {before.top1:.2%} on {len(test):,} images; exporting")
    formats.write_safetensors(folder, classifier)
    program = formats.traced(classifier)
    formats.write_program(folder, program, said)
    model = formats.onnx_model(program, said)
    formats.write_onnx(folder / formats.FLOAT_IMAGES, model)
    formats.write_onnx(folder / formats.UINT8_IMAGES, formats.with_uint8_images(model))
    runs: dict[str, Callable[[Tensor], Tensor]] = {
        formats.SAFETENSORS: load(folder, trust_factory=True),  # the caller already allowed it for the student
        formats.PROGRAM: _program(folder / formats.PROGRAM),
        formats.FLOAT_IMAGES: OnnxClassifier.open(folder / formats.FLOAT_IMAGES, threads=1),
        formats.UINT8_IMAGES: OnnxClassifier.open(folder / formats.UINT8_IMAGES, threads=1),
    }
    found = {name: compare(answers(run, test), student, test.labels) for name, run in runs.items()}
    for name, one in found.items():
        refuse_differing(name, one, student)
    int8 = None
    if options.int8:
        int8, more = _int8(classifier, model, folder, data, test, options.int8, say)
        runs |= more
        for name, run in more.items():
            found[name] = compare(answers(run, test), student, test.labels)
            refuse_drop(before.top1, found[name].top1, options.int8, len(test))
        int8 |= {
            "top1_before": before.top1,
            "top1_after": found[formats.INT8].top1,
            "max_drop_points": options.int8.max_drop,
        }
    say(f"all formats agree; timing {len(runs)} of them")
    times = {str(batch): timed(runs, test, batch, options.budget) for batch in BATCHES}
    entries = {name: _entry(folder / name, found[name], {b: of[name] for b, of in times.items()}) for name in runs}
    return {
        "prepkd": version("prepkd"),
        "student": {
            "model": classifier.card["model"],
            "weights_fingerprint": classifier.card["weights_fingerprint"],
            "parameters": sum(one.numel() for one in classifier.parameters()),
            "top1": before.top1,
            "seeds": top1_over_seeds(options.details, classifier.card, before.top1) if options.details else None,
        },
        "data": {
            "dataset": info.dataset,
            "dataset_fingerprint": info.fingerprint,
            "test_fingerprint": info.split_fingerprints["test"],
            "samples": len(test),
        },
        "formats": entries,
        "int8": int8,
        "latency_settings": {"threads": 1, "warm_up_calls": WARM_UP, "processor": processor(), "device": "cpu"},
        "versions": {name: version(name) for name in ("torch", "onnx", "onnxruntime", "onnxscript")},
    }


def _int8(
    classifier: Classifier,
    model: Any,
    folder: Path,
    data: Path,
    test: Samples,
    settings: Int8,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Callable[[Tensor], Tensor]]]:
    """Write the int8 models; return the quantisation's settings and errors, and the models by file."""
    train = samples_of(load_split(data, "train"), classifier.framing)
    calibrate, judge = chosen_images(settings.images, len(train))
    say(f"int8: calibrating on {len(calibrate):,} training images, judging on {len(judge):,} others")
    wanted, said = answers(classifier, train, judge), formats.about(classifier)

    def error(candidate: Any) -> float:
        """The mean squared difference from the student's logits on the judging images."""
        formats.write_onnx(folder / formats.INT8, formats.described(candidate, said))
        run = OnnxClassifier.open(folder / formats.INT8, threads=1)
        return (answers(run, train, judge) - wanted).square().mean().item()

    batches = [train.evaluation_pixels(part) for part in torch.split(calibrate, CALIBRATION_BATCH)]
    best, method, errors = quantised(model, batches, error)
    formats.write_onnx(folder / formats.INT8, formats.described(best, said))
    formats.write_onnx(folder / formats.INT8_UINT8_IMAGES, formats.with_uint8_images(best))
    runs: dict[str, Callable[[Tensor], Tensor]] = {
        name: OnnxClassifier.open(folder / name, threads=1) for name in (formats.INT8, formats.INT8_UINT8_IMAGES)
    }
    made = {"method": method, "mean_squared_errors": errors, "calibration_images": len(calibrate)}
    return made | {"judging_images": len(judge)}, runs


def timed(
    runs: Mapping[str, Callable[[Tensor], Tensor]], test: Samples, batch: int, budget: float
) -> dict[str, Latency]:
    """Time each format on a batch of test images, in the dtype that it takes."""
    pixels = test.evaluation_pixels(torch.arange(batch) % len(test))
    fed = {name: pixels.mul(255).round().byte() if _takes_uint8(run) else pixels for name, run in runs.items()}

    @torch.inference_mode()
    def call(name: str) -> Tensor:
        return runs[name](fed[name])

    return latencies({name: lambda name=name: call(name) for name in runs}, budget=budget)  # type: ignore[misc]


def _takes_uint8(run: object) -> bool:
    return isinstance(run, OnnxClassifier) and run.dtype == torch.uint8


def _program(path: Path) -> Callable[[Tensor], Tensor]:
    """Load torch.export's archive, which this process has just written, as a function to logits."""
    module = torch.export.load(path).module()
    return lambda images: module(images)[0]


def _entry(path: Path, found: Agreement, times: Mapping[str, Latency]) -> dict[str, Any]:
    return asdict(found) | {
        "bytes": path.stat().st_size,
        "latency": {batch: asdict(one) for batch, one in times.items()},
    }


def top1_over_seeds(path: Path, card: Mapping[str, Any], top1: float) -> dict[str, Any] | None:
    """Mean, std and n of top-1 over the student's seeds from results/details.json; None if it can't be about these seeds.

    The file does not name its students. Their number must equal the card's, and this student's top-1 must be a possible value
    among theirs (no value is further from the mean than std (n - 1) / sqrt(n); Samuelson 1968).
    """
    try:
        content = read_object(path)
        n, mean, std = content["n"], content["top1"]["mean"], content["top1"]["std"]
        furthest = 0.0 if std is None else std * (n - 1) / math.sqrt(n)
        possible = abs(top1 - mean) <= furthest + 1e-6
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):  # no such file, or malformed
        return None
    seeds = card.get("training", {}).get("seeds")
    same = n == (len(seeds) if isinstance(seeds, list) else seeds)
    return {"mean": mean, "std": std, "n": n} if possible and same and method_of(card) else None


def processor() -> str:
    """The processor's name; it does not identify the machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not on Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def refuse_edited(target: Path, card: Mapping[str, Any]) -> None:
    """Raise InputError if `target` holds an export with an edited README.md, or of other weights than the card's."""
    if not (target / PAGE).exists():
        return
    remedy = "--replace replaces it"
    try:
        checks = read_object(target / CHECKS)
        written, weights = checks["page_sha256"], checks["student"]["weights_fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{target}: holds an export without its {CHECKS}; {remedy}") from None
    if file_sha256(target / PAGE) != written:
        raise InputError(f"{target}: its {PAGE} was changed since the export; {remedy}")
    refuse_differences({"student.weights_fingerprint": (weights, card["weights_fingerprint"])}, target, remedy)


class one_thread:
    """A context in which torch computes on one thread."""

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)


def data_of(student: Path, card: Mapping[str, Any], folder: Path) -> Path:
    """The prepared data that a card names, else `folder/DATASET.h5`; raises InputError if it names none."""
    inputs = card.get("inputs", {})
    if isinstance(inputs.get("data"), str):
        return Path(inputs["data"])
    if not isinstance(inputs.get("dataset"), str):
        raise InputError(f"{student}: its card does not name its data; name the prepared file with --data")
    return folder / f"{inputs['dataset']}.h5"

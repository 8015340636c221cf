"""Students of other training loops: their test logits, the kept measurements, and refused folders."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import elsewhere_files as files
import prepkd
import pytest
import torch
from prepkd.data.prepared.file import load_split
from prepkd.data.sources import SOURCES
from prepkd.errors import InputError
from prepkd.models import Normalised, Preprocessing
from prepkd.models.checkpoint import load_checkpoint, save_checkpoint
from prepkd.report import added as module
from prepkd.report.added import AddedStudents, added_students
from prepkd.report.evaluation import Evaluation
from safetensors.torch import save_file
from torch import Tensor, nn

FILE = Path("results/mine.safetensors")
HOW = Preprocessing((0.3,), (0.4,))


def student(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return prepkd.build_model("convnet4", 10, in_channels=1).eval()


def expected(seed: int, how: Preprocessing | None = None) -> Tensor:
    """The student's logits of the test images; pixels are in [0, 1]."""
    pixels = torch.from_numpy(load_split(Path("data/digits.h5"), "test").images).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        model = student(seed)
        return model(pixels) if how is None else Normalised(model, how).eval()(pixels)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Digits and students of two seeds, in the current folder."""
    monkeypatch.chdir(tmp_path)
    files.digits(Path("data/digits.h5"))
    for seed in (0, 1):
        prepkd.save(f"mine/seed{seed}", student(seed), "convnet4", "data/digits.h5", seed=seed)
    return tmp_path


def measured(folder: str = "mine", trusted: tuple[str, ...] = ()) -> AddedStudents:
    return added_students(Path(folder), FILE, Evaluation(Path("data/digits.h5"), (), torch.device("cpu")), trusted)


def test_saved_students_are_measured_and_not_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured()
    assert found.student == "convnet4" and list(found.logits) == [0, 1]
    for seed, logits in found.logits.items():
        torch.testing.assert_close(logits, expected(seed))
    with monkeypatch.context() as patch:
        patch.setattr(module, "predict", None)
        again = measured()
    assert all(torch.equal(again.logits[seed], logits) for seed, logits in found.logits.items())
    prepkd.save("mine/seed1", student(7), "convnet4", "data/digits.h5", seed=1)
    torch.testing.assert_close(measured().logits[1], expected(7))


def test_what_is_kept_of_students_of_other_training_images_is_refused_too() -> None:
    """Kept measurements are refused if val_fraction, hence the training images, changed and the test images did not."""
    measured()
    test = load_split(Path("data/digits.h5"), "test").fingerprint
    files.write_data(Path("data/digits.h5"), SOURCES["digits"].read(Path()), subset=12, val_fraction=0.2)
    assert load_split(Path("data/digits.h5"), "test").fingerprint == test
    with pytest.raises(InputError, match=r"mine/seed0: inputs\.dataset_fingerprint is "):
        measured()


def test_a_folder_of_weights_needs_the_models_name_alone() -> None:
    Path("bare/seed3").mkdir(parents=True)
    save_file(student(3).state_dict(), "bare/seed3/model.safetensors")
    Path("bare/model.json").write_text('{"model": "convnet4"}')
    torch.testing.assert_close(measured("bare").logits[3], expected(3))
    own = {"model": "convnet4", "preprocessing": {"mean": [0.3], "std": [0.4]}}
    Path("bare/seed3/model.json").write_text(json.dumps(own))  # a seed's card takes precedence over the folder's
    torch.testing.assert_close(measured("bare").logits[3], expected(3, HOW))


def test_what_was_saved_is_loaded_with_its_preprocessing_and_size() -> None:
    prepkd.save("one", Normalised(student(0), HOW), "convnet4", "data/digits.h5")
    prepkd.save("two", student(0), "convnet4", "data/digits.h5", mean=[0.3], std=[0.4])
    images = torch.rand(3, 1, 8, 8)
    for folder in ("one", "two"):
        classifier = prepkd.load(folder)
        assert classifier.framing.size == (8, 8) and classifier.class_names == tuple("0123456789")
        torch.testing.assert_close(classifier(images), Normalised(student(0), HOW)(images))
    with pytest.raises(InputError, match="the model that was given, as 'convnet8': not this model's weights"):
        prepkd.save("three", student(0), "convnet8", "data/digits.h5")
    assert not Path("three").exists()


def no_seeds() -> None:
    shutil.rmtree("mine/seed0")
    shutil.rmtree("mine/seed1")


def change_card(**changes: Any) -> Callable[[], None]:
    def change() -> None:
        model, card = load_checkpoint(Path("mine/seed0"))
        save_checkpoint(Path("mine/seed0"), model, card | changes)

    return change


def write(path: str, text: str) -> Callable[[], None]:
    return lambda: bool(Path(path).write_text(text)) and None


def truncate() -> None:
    path = Path("mine/seed0/model.safetensors")
    path.write_bytes(path.read_bytes()[:-9])


def pickled() -> None:
    Path("mine/seed0/model.json").write_text('{"model": "convnet4"}')
    torch.save({"weights": student(0)}, "mine/seed0/model.safetensors")  # pickles the module, that is, code


def not_finite() -> None:
    model, card = load_checkpoint(Path("mine/seed0"))
    model.body.fc.bias.data[0] = torch.inf  # type: ignore[union-attr,operator,index]
    save_checkpoint(Path("mine/seed0"), model, card)


def other_model() -> None:
    torch.manual_seed(0)
    prepkd.save("mine/seed0", prepkd.build_model("convnet8", 10, in_channels=1), "convnet8", "data/digits.h5")


OTHER_NAMES = [*"1234567890"]
FAULTS: list[tuple[Callable[[], object], str]] = [
    (lambda: shutil.rmtree("mine"), "mine: no such folder; expected one folder per seed in it: seed0, seed1, ..."),
    (no_seeds, "mine: no folder of a seed; expected seed0, seed1, ..., one student in each"),
    (lambda: Path("mine/seed1").rename("mine/last"), "mine/last: expected one folder per seed: seed0, seed1"),
    (lambda: Path("mine/seed1").rename("mine/seed2"), "mine/seed2: seed is 1, expected 2"),
    (lambda: Path("mine/seed0/model.json").unlink(), "mine/seed0/model.json: no such file; expected model.safeten"),
    (lambda: Path("mine/seed0/model.safetensors").unlink(), "mine/seed0/model.safetensors: no such file"),
    (truncate, "mine/seed0/model.safetensors: not a whole safetensors file"),
    (write("mine/seed0/model.json", "{"), "mine/seed0/model.json: not JSON"),
    (write("mine/seed0/model.json", "[]"), "mine/seed0/model.json: holds a list"),
    (write("mine/seed0/model.json", '{"model": "convnet44"}'), "mine/seed0/model.json: model is 'convnet44': unknown"),
    (write("mine/seed0/model.json", '{"model": "os:system"}'), "its model is 'os:system', code that would be imported"),
    (write("mine/seed0/model.json", '{"model": "convnet8"}'), "not this model's weights"),
    (write("mine/seed0/model.json", '{"model": "convnet4", "epochs": 3}'), "unknown key epochs; allowed: class_names"),
    (
        write("mine/seed0/model.json", '{"model": "convnet4", "preprocessing": {"mean": [0, 0], "std": [1, 1]}}'),
        "preprocessing has 2 channels; the data's images have 1",
    ),
    (pickled, "mine/seed0/model.safetensors: loading would run "),
    (not_finite, "mine/seed0: its logits are not finite for 120 of 120 test images"),
    (other_model, "mine: its seeds are of different models, 'convnet8' and 'convnet4'"),
    (change_card(model="os:system"), "its model is 'os:system', code that would be imported"),
    (change_card(class_names=OTHER_NAMES), "mine/seed0: class_names is ['1', "),
    (change_card(inputs={"dataset_fingerprint": "f" * 64}), "mine/seed0: inputs.dataset_fingerprint is ffff"),
    (lambda: write("mine/seed0/model.json", "{}")(), "mine/seed0/model.json: model is missing"),
]


@pytest.mark.parametrize(("spoil", "says"), FAULTS, ids=lambda value: value[:50] if isinstance(value, str) else "")
def test_a_fault_is_one_line_and_nothing_is_written(spoil: Callable[[], object], says: str) -> None:
    spoil()
    with pytest.raises(InputError) as fault:
        measured()
    assert says in str(fault.value) and "\n" not in str(fault.value), fault.value
    assert not FILE.exists()


def test_code_of_a_model_that_the_settings_name_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's code is imported only if the settings name it; its students are measured each time, as code may change."""
    Path("own_net.py").write_text(
        "import torch\ndef net(num_classes, in_channels):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * in_channels, num_classes))\n"
    )
    model = prepkd.build_model("own_net:net", 10, in_channels=1)
    shutil.rmtree("mine")
    prepkd.save("mine/seed0", model, "own_net:net", "data/digits.h5")
    with pytest.raises(InputError, match="'own_net:net', code that would be imported; if you trust it, name it in"):
        measured()
    assert measured(trusted=("own_net:net",)).student == "own_net:net"
    monkeypatch.setattr(module, "predict", lambda model, shown: torch.zeros(len(shown), 10))
    assert not measured(trusted=("own_net:net",)).logits[0].any()

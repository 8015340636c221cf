"""Imported logits become a store: the same numbers, the same students, and no promises that cannot be kept."""

import json
import os
import shlex
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import elsewhere_files as files
import numpy as np
import pytest
import torch
from commands import ROOT, enter, prepkd
from prepkd import LogitStore, ViewDataset
from prepkd.models import save_checkpoint
from prepkd.teacher.forward_pass import SampleViews, raw_logits, to_eval
from prepkd.teacher.imported import UNVERIFIED, agreement
from prepkd.views.plan import PLAN_VERSION
from safetensors.torch import save_file
from torch import Tensor

SAMPLES, CLASSES = 120, 10
CROP = [{"crop": {"padding": 1}}]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a folder with the digits, 12 per class, and the default settings, shrunk."""
    enter(tmp_path, monkeypatch)
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("subset: null", "subset: 12").replace("seeds: 5", "seeds: 1"))
    files.digits(tmp_path / "data/digits.h5")
    return tmp_path


def refused(*arguments: str) -> str:
    """Return the one line of a command's refusal; nothing may be written."""
    before = everything()
    line = prepkd(*arguments, code=2)
    assert line.startswith("error: ") and line.count("\n") == 1, line
    assert everything() == before
    return line.removeprefix("error: ").rstrip("\n")


def everything() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


def made_up(seed: int = 0, views: int = 1) -> Tensor:
    """Return logits (V, N, K) that favour the labels a little."""
    labels = files.dataset_of(Path("data/digits.h5"), [], 1).samples.labels
    noise = torch.randn(views, SAMPLES, CLASSES, generator=torch.Generator().manual_seed(seed))
    return 2 * torch.nn.functional.one_hot(labels, CLASSES) + noise


def keyed(raw: Tensor, spell: Callable[[int], Any] = str) -> dict[Any, Tensor]:
    """Return a row per index, in neither numerical order nor the order of the spelled keys."""
    order = torch.randperm(len(raw), generator=torch.Generator().manual_seed(3)).tolist()
    return {spell(index): raw[index].clone() for index in order}


def kept(raw: Tensor, store: LogitStore) -> np.ndarray:
    """Return logits (V, N, K) after the round trip through the store's encoding."""
    labels = files.dataset_of(Path("data/digits.h5"), [], 1).samples.labels
    decoded = [store.encoding.decode(store.encoding.encode(view.float(), labels)) for view in raw]
    return torch.stack([one["logits"].float() + one["row_max"][:, None] for one in decoded]).numpy()


WRITERS: dict[str, Callable[[Tensor], object]] = {
    "plain.npy": lambda z: np.save("plain.npy", z.numpy()),
    "fortran.npy": lambda z: np.save("fortran.npy", np.asfortranarray(z.numpy())),
    "tensor.pt": lambda z: torch.save(z, "tensor.pt"),
    "leaf.pth": lambda z: torch.save(torch.nn.Parameter(z), "leaf.pth"),
    "named.pt": lambda z: torch.save({"logits": z, "comment": "one tensor, and a word"}, "named.pt"),
    "numbers.pt": lambda z: torch.save(keyed(z, int), "numbers.pt"),
    "digits.pt": lambda z: torch.save(keyed(z), "digits.pt"),
    "one.safetensors": lambda z: save_file({"z": z}, "one.safetensors"),
    "keyed.safetensors": lambda z: save_file(keyed(z), "keyed.safetensors"),
    "zeros.safetensors": lambda z: save_file(keyed(z, "{:06}".format), "zeros.safetensors"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file(project: Path, name: str) -> None:
    raw = made_up()
    WRITERS[name](raw[0])
    text = prepkd("import", name, "large")
    assert f"{name}: 1 view x 120 samples x 10 classes\n" in text
    store = LogitStore.open("data/logits/large.zarr")
    assert (store.views, store.samples, store.classes) == (1, SAMPLES, CLASSES)
    assert np.array_equal(store.logits(0), kept(raw, store)[0])
    assert not list((project / "scratch").glob("*"))


@pytest.mark.parametrize("spread", [False, True])
def test_several_views(project: Path, spread: bool) -> None:
    """Logits of several views are accepted as (V, N, K), and as (V, K) for each index."""
    raw = made_up(views=4)
    torch.save(keyed(raw.transpose(0, 1), int) if spread else raw, "z.pt")
    prepkd("import", "z.pt", "large", "--recipe", json.dumps(CROP), "--seed", "7", "--views", "4")
    store = LogitStore.open("data/logits/large.zarr")
    assert store.plan.describe() == {"recipe": CROP, "views": 4, "seed": 7, "samples": SAMPLES, "version": PLAN_VERSION}
    assert np.array_equal(np.stack([store.logits(view) for view in range(4)]), kept(raw, store))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_converted_and_that_is_said(project: Path, kind: torch.dtype) -> None:
    raw = made_up().to(kind)
    torch.save(raw, "z.pt")
    text = prepkd("import", "z.pt", "large")
    assert f"10 classes, {str(kind).removeprefix('torch.')} converted to float32" in text
    store = LogitStore.open("data/logits/large.zarr")
    assert np.array_equal(store.logits(0), kept(raw, store)[0])


def test_big_endian_numbers(project: Path) -> None:
    raw = made_up()
    np.save("z.npy", raw[0].numpy().astype(">f4"))
    prepkd("import", "z.npy", "large")
    store = LogitStore.open("data/logits/large.zarr")
    assert np.array_equal(store.logits(0), kept(raw, store)[0])


@pytest.mark.parametrize("encoding", ["u8", "i16", "topk"])
def test_encodings_and_a_place_of_ones_own(project: Path, encoding: str) -> None:
    """No settings file is present, and the target is not a folder."""
    (project / "params.yaml").unlink()
    raw = made_up(views=9)
    # By default topk keeps 16 logits, more than the digits have classes.
    np.save("z.npy", raw.numpy())
    url = f"memory://imported/{encoding}-{os.getpid()}.zarr"
    options = ["--data", "data/digits.h5", "--to", url, "--encoding", encoding, "--recipe", json.dumps(CROP)]
    if encoding == "topk":
        assert "cache.topk.k is 16; expected 2 to 9" in refused("import", "z.npy", "theirs", *options)
        return
    text = prepkd("import", "z.npy", "theirs", "--views", "all", *options)
    assert f"to learn from it: prepkd.ViewDataset('data/digits.h5', '{url}')\n" in text
    store = LogitStore.open(url)
    assert store.encoding.name == encoding and store.plan.exhaustive
    assert np.array_equal(store.logits(8), kept(raw, store)[8])
    assert np.array_equal(ViewDataset("data/digits.h5", url, view=8)[5][2].numpy(), store.logits(8)[5])


def test_what_it_says_and_what_the_attributes_say(project: Path) -> None:
    np.save("z.npy", made_up(views=2).numpy())
    text = prepkd("import", "z.npy", "large", "--recipe", json.dumps(CROP), "--seed", "3")
    lines = text.splitlines()
    checked = "checked: views, samples and classes are as many as in data/digits.h5, every value is finite, labels agree above"
    assert lines[1] == f"{checked} chance"
    declared = f"that the views are those of recipe {CROP}, seed 3"
    assert lines[2:7] == [f"not verified: {one}" for one in (*UNVERIFIED, declared)]
    assert lines[8].startswith("data/logits/large.zarr: sha256 of its manifest ")
    assert lines[9] == (
        "to learn from it: prepkd distill --teacher large "
        '-S \'augment=[{"crop": {"padding": 1}}]\' -S cache.views=2 -S cache.seed=3'
    )
    store = LogitStore.open("data/logits/large.zarr")
    assert store.attributes.unverified == [*UNVERIFIED, declared]
    source = store.attributes.teacher.source
    assert source["file"] == "z.npy" and len(source["sha256"]) == 64
    assert store.attributes.teacher.model_dump(exclude={"source"}) == {
        "name": "large",
        "model": "imported",
        "weights_fingerprint": None,
        "preprocessing": None,
    }
    unknown = {"arithmetic": "unknown", "batch_size": None, "device": "unknown"}
    assert store.attributes.precision.model_dump() == unknown
    assert lines[7] == (
        f"data/logits/large.zarr: the teacher is wrong on {store.summary['teacher_error']:.2%} of the training views: "
        "KA's share"
    )
    assert 0.05 < store.summary["teacher_error"] < 0.6
    again = prepkd("import", "z.npy", "large", "--recipe", json.dumps(CROP), "--seed", "3").splitlines()
    assert again[7].startswith("data/logits/large.zarr: already finished; the teacher is wrong on")
    assert again[:7] + again[8:] == lines[:7] + lines[8:]


@pytest.mark.parametrize("encoding", [None, "u8"])
def test_the_printed_command_trains_as_printed(project: Path, encoding: str | None) -> None:
    """The store's name is no key of `teachers`, and the settings have two teachers and strong views."""
    settings = (project / "params.yaml").read_text()
    for old, new in (
        ("  epochs: 30                # an", "  epochs: 1  #"),
        ("  source: cached ", "  source: online "),
        ("teachers: null ", "teachers: [large, small] "),
        ("augment_strong: [] ", "augment_strong: [trivial-augment] "),
    ):
        assert settings.count(old) == 1
        settings = settings.replace(old, new)
    (project / "own params.yaml").write_text(settings)
    (project / "params.yaml").unlink()
    np.save("z.npy", made_up()[0].numpy())
    options = ["--params", "own params.yaml", "-S", "cache.root=my stores"]
    text = prepkd("import", "z.npy", "elsewhere", *options, *(["--encoding", encoding] if encoding else []))
    _, command = text.splitlines()[-1].split(": ", 1)
    prepkd(*shlex.split(command)[1:])
    card = json.loads(Path("models/student/seed0/model.json").read_text())
    assert list(card["inputs"]["teacher"]) == ["elsewhere"]
    changed = f"{command} --source online --replace"
    assert "run `prepkd train-teacher elsewhere`" in refused(*shlex.split(changed)[1:])
    for stage in ("train-teacher", "cache-logits", "cache-features"):
        line = refused(stage, "elsewhere", *options, "-S", "teachers.elsewhere={model: imported}")
        assert line.startswith("teachers.elsewhere.model is imported: there is no model to train or to ask; name one")
    line = refused("plan", "--measure", *shlex.split(command)[4:], "-S", "distill.teacher=elsewhere")
    assert line == "teachers.elsewhere.model is imported: there is no model to time; give --teacher-images-per-second"


def test_another_order_of_samples_or_classes_is_doubted(project: Path) -> None:
    raw = made_up(views=3)
    raw[1] = raw[1].roll(SAMPLES // 2, dims=0)
    raw[2] = raw[2].roll(1, dims=-1)
    np.save("z.npy", raw.numpy())
    text = prepkd("import", "z.npy", "large", "--recipe", json.dumps(CROP))
    line, order = [line for line in text.splitlines() if line.startswith("warning: ")]
    assert order.startswith("warning: view 2 agrees with ") and "if the classes are put in another order" in order
    found = agreement(raw[1], files.dataset_of(Path("data/digits.h5"), [], 1).samples.labels)
    assert line == (
        "warning: 2 of 3 views agree with the labels no better than chance: view 1 "
        f"{found.top1:.1%}, chance {found.chance:.1%}; are samples and classes in the data's order?"
    )
    assert "above chance" not in text


def test_chance() -> None:
    labels = torch.arange(1000) % 4
    constant = torch.zeros(1000, 4)
    assert (agreement(constant, labels).top1, agreement(constant, labels).chance) == (0.25, 0.25)
    assert agreement(constant, labels).doubtful
    # Four standard deviations of 1,000 draws at 1/4 are 5.48 %: 305 right answers are above the limit, 304 are not.
    for right, doubtful in ((304, True), (305, False)):
        answers = torch.where(torch.arange(1000) < right, labels, (labels + 1) % 4)
        found = agreement(torch.nn.functional.one_hot(answers, 4).float(), labels)
        assert found.top1 == right / 1000 and found.doubtful is doubtful


def test_students_of_an_imported_and_of_a_cached_store_are_equal(project: Path) -> None:
    data = Path("data/digits.h5")
    dataset = files.dataset_of(data, CROP, 3)
    teacher = files.teacher_of(dataset)
    cached = files.write_store(project / "cached/large.zarr", data, dataset, teacher=teacher)
    asked = [SampleViews.of(dataset, view, slice(None)) for view in range(3)]
    raw = [raw_logits(to_eval(teacher), one, batch_size=8, precision="ieee") for one in asked]
    np.save("z.npy", torch.stack(raw).numpy())
    same = ["-S", "cache.chunk=16", "-S", "cache.batch_size=8", "-S", "cache.root=imported"]
    prepkd("import", "z.npy", "large", "--recipe", json.dumps(CROP), "--seed", "7", *same)
    chunks = {path.relative_to(cached.url): path for path in Path(cached.url).glob("*/c/**/*") if path.is_file()}
    assert len(chunks) == 3 * 3 * 8
    for key, path in chunks.items():
        assert (project / "imported/large.zarr" / key).read_bytes() == path.read_bytes(), key

    weights = {}
    for root in ("cached", "imported"):
        plan = ["-S", "cache.views=3", "-S", "cache.seed=7", "-S", "cache.batch_size=8", "-S", f"cache.root={root}"]
        prepkd("distill", "--replace", "--method", "ka-ps+dtd-flsw", "--epochs", "2", *plan)
        weights[root] = json.loads(Path("models/student/seed0/model.json").read_text())["weights_fingerprint"]
    assert weights["imported"] == weights["cached"]
    # The store does not record that this teacher made the logits.
    save_checkpoint(Path("models/teachers/large"), teacher, {"model": "convnet4", "num_classes": 10, "in_channels": 1})
    assert "teacher.weights_fingerprint is None, expected " in prepkd("distill", *plan, code=2)


def test_log_probabilities_are_imported_with_a_warning_and_dtd_flsw_refuses_them(project: Path) -> None:
    np.save("z.npy", made_up()[0].log_softmax(-1).numpy())
    text = prepkd("import", "z.npy", "large")
    assert (
        "warning: z.npy: every row's log-sum-exp is 0: log-probabilities, which methods that compare raw logits" in text
    )
    plan = ["-S", "augment=[]", "-S", "cache.views=1", "-S", "distill.student=convnet4"]
    line = prepkd("distill", "--method", "dtd-flsw", "--epochs", "1", *plan, code=2)
    assert line.startswith(
        "error: data/logits/large.zarr: every row's log-sum-exp is 0: log-probabilities, which have lost"
    )
    assert not Path("models").exists()
    prepkd("distill", "--method", "dtd-cwsm", "--epochs", "1", *plan)


def test_values_of_which_none_is_negative_are_warned_of(project: Path) -> None:
    np.save("z.npy", made_up()[0].relu().numpy())
    text = prepkd("import", "z.npy", "large")
    assert "warning: z.npy: no value of 120 rows is negative; expected raw logits" in text


class Bomb:
    """An object that creates a folder if it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("bomb",)


def truncated(name: str, write: Callable[[Tensor], object], share: float) -> Callable[[Tensor], object]:
    def writer(raw: Tensor) -> None:
        write(raw)
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: int(share * len(content))])

    return writer


def without(raw: Tensor, *indices: int) -> dict[str, Tensor]:
    return {key: row for key, row in keyed(raw).items() if int(key) not in indices}


def changed(raw: Tensor, value: float) -> Tensor:
    raw = raw.clone()
    raw[17, 3] = value
    return raw


def top3(values: Tensor) -> Tensor:
    best = values.topk(3, dim=-1)
    return torch.zeros_like(values).scatter(1, best.indices, best.values)


def claims_more(raw: Tensor) -> None:
    """Return an .npy header that promises 2^60 rows."""
    np.save("z.npy", raw.numpy())
    content = Path("z.npy").read_bytes()
    length = struct.unpack("<H", content[8:10])[0]
    header = content[10 : 10 + length].replace(b"(120, 10)", b"(1152921504606846976, 10)").rstrip()
    Path("z.npy").write_bytes(content[:10] + header.ljust(length - 1) + b"\n" + content[10 + length :])


def npy(array: Any, **options: Any) -> None:
    np.save("z.npy", array, **options)


def pt(content: Any) -> None:
    torch.save(content, "z.pt")


MALFORMED: dict[str, tuple[str, Callable[[Tensor], object], str]] = {
    "code": ("z.pt", lambda z: pt({"logits": z, "x": Bomb()}), "z.pt: loading would run posix.mkdir, refused; save one tensor"),
    "numpy": ("z.pt", lambda z: pt(z.numpy()), "z.pt: loading would run numpy"),
    "no pickle": ("z.pt", lambda z: Path("z.pt").write_text("logits"), "z.pt: not a file of logits of torch.save, or damaged"),
    "empty pt": ("z.pt", lambda z: Path("z.pt").touch(), "z.pt: not a whole file of torch.save: "),
    "cut pt": ("z.pt", truncated("z.pt", pt, 0.7), "z.pt: not a whole file of torch.save: "),
    "objects": ("z.npy", lambda z: npy(np.array([{"a": 1}, None]), allow_pickle=True), "z.npy: not a whole .npy file of numbers"),
    "cut npy": ("z.npy", truncated("z.npy", lambda z: npy(z.numpy()), 0.7), "z.npy: not a whole .npy file of numbers: "),
    "cut header": ("z.npy", truncated("z.npy", lambda z: npy(z.numpy()), 0.01), "z.npy: not a whole .npy file of numbers: "),
    "empty npy": ("z.npy", lambda z: Path("z.npy").touch(), "z.npy: not a whole .npy file of numbers: "),
    "too long": ("z.npy", claims_more, "z.npy: not a whole .npy file of numbers: "),
    "npz": ("z.npy", lambda z: np.savez("z.npz", z.numpy()) or Path("z.npz").rename("z.npy"), "z.npy: not a whole .npy file"),
    "text": ("z.npy", lambda z: npy(np.array(["a", "b"])), "z.npy: holds <U1; expected logits in float16, float32 or float64"),
    "cut safetensors": (
        "z.safetensors",
        truncated("z.safetensors", lambda z: save_file({"z": z}, "z.safetensors"), 0.7),
        "z.safetensors: not a whole safetensors file: ",
    ),
    "no safetensors": ("z.safetensors", lambda z: save_file({}, "z.safetensors"), "z.safetensors: holds no tensor; expected one"),
    "suffix": ("z.csv", lambda z: Path("z.csv").write_text("1,2"), "z.csv: ends in '.csv'; expected one of .npy, .pt, .pth, "),
    "missing": ("z.npy", lambda z: None, "z.npy: no such file; expected logits"),
    "nan": (
        "z.npy",
        lambda z: npy(changed(z, np.nan).numpy()),
        "z.npy: 1 values are not finite in float32, the first at view 0, sample 17, class 3: nan",
    ),
    "too large": ("z.npy", lambda z: npy(changed(z, -1.0).numpy().astype("f8") * 1e300), "values are not finite in float32"),
    "range": ("z.npy", lambda z: npy(changed(z, -7e4).numpy()), "with a range up to 65504, found a range of 7000"),
    "integers": ("z.npy", lambda z: npy(z.long().numpy()), "z.npy: holds int64; expected logits in float16, bfloat16"),
    "complex": ("z.npy", lambda z: npy(z.numpy() + 1j), "z.npy: holds complex64; expected logits in"),
    "probabilities": ("z.pt", lambda z: pt(z.softmax(-1)), "z.pt: no value is negative and every row's sum is at most 1: prob"),
    "top 3": ("z.pt", lambda z: pt(top3(z.softmax(-1))), "every row's sum is at most 1: probabilities; expected raw logits: the"),
    "percent": ("z.npy", lambda z: npy(100 * z.softmax(-1).numpy()), "every row's sum is 100: percentages; expected raw logits"),
    "sparse": ("z.pt", lambda z: pt(z.to_sparse()), "float32 or float64, dense"),
    "a sparse row": ("z.pt", lambda z: pt(dict(enumerate(z)) | {5: z[5].to_sparse()}), "float32 or float64, dense"),
    "no values": ("z.pt", lambda z: pt(z.to("meta")), "z.pt: holds float32 without its values; expected logits in float16"),
    "expanded": (
        "z.pt",
        lambda z: pt(z[:1, :1].clone().expand(10**6, 10**6)),
        "z.pt: its tensors have 1,000,000,000,000 numbers, of which it holds 1; expected each number; save copies",
    ),
    "shared rows": (
        "z.pt",
        lambda z: pt(dict.fromkeys(range(SAMPLES), z[0].clone())),
        "z.pt: its tensors have 1,200 numbers, of which it holds 10; expected each number; save copies: tensor.clone()",
    ),
    "one row": ("z.npy", lambda z: npy(z[0].numpy()), "z.npy: has the shape (10,); expected (samples, classes) or (views, "),
    "samples": ("z.npy", lambda z: npy(z[1:].numpy()), "the logits are of 119 samples, data/digits.h5 has 120 in train; one row"),
    "classes": ("z.npy", lambda z: npy(z[:, 1:].numpy()), "the logits are of 9 classes, data/digits.h5 has 10; one column"),
    "views": ("z.npy", lambda z: npy(np.stack([z.numpy()] * 2)), "the logits are of 2 views, --recipe [] makes one, the image"),
    "a list": ("z.pt", lambda z: pt([z]), "z.pt: holds list; expected a tensor, or a dict of index to tensor"),
    "an empty dict": ("z.pt", lambda z: pt({}), "z.pt: holds dict; expected a tensor"),
    "another key": ("z.pt", lambda z: pt(keyed(z) | {"labels": z[0]}), "z.pt: has 'labels': Tensor; expected one tensor, or one"),
    "a flag": ("z.pt", lambda z: pt(keyed(z, int) | {True: 1}), "z.pt: has 1: int; expected one tensor, or one"),
    "absent": ("z.pt", lambda z: pt(without(z, 5, 70)), "z.pt: 2 of the indices 0 to 119 are missing: 5, 70"),
    "many absent": (
        "z.safetensors",
        lambda z: save_file(without(z, *range(3, 11)), "z.safetensors"),
        "z.safetensors: 8 of the indices 0 to 119 are missing: 3, 4, 5, 6, 7, ...",
    ),
    "from one": ("z.pt", lambda z: pt(keyed(z, lambda i: i + 1)), "indices 0 to 120 are missing: 0; indices start at 0"),
    "far away": ("z.pt", lambda z: pt(keyed(z, int) | {10**17: z[0]}), "missing: 120, 121, 122, 123, 124, ..."),
    "twice": ("z.pt", lambda z: pt(keyed(z) | {7: z[0]}), "z.pt: has sample 7 twice, as '7' and 7; expected each index once"),
    "spelled twice": (
        "z.safetensors",
        lambda z: save_file(keyed(z) | {"007": z[0].clone()}, "z.safetensors"),
        "z.safetensors: has sample 7 twice, as ",
    ),
    "ragged": ("z.pt", lambda z: pt(keyed(z) | {"7": z[0, :9]}), "z.pt: sample 7 is torch.float32 (9,), sample 0 is"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Validating sparse tensor:UserWarning")
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_are_one_line_and_nothing_is_written(project: Path, case: str) -> None:
    name, write, message = MALFORMED[case]
    write(made_up()[0])
    assert message in refused("import", name, "large")
    assert not Path("bomb").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "crop"], "--recipe is 'crop': Expecting value: line 1 column 1 (char 0); expected JSON as"),
        (["--recipe", '"flip"'], "--recipe is '\"flip\"': is not a list"),
        (["--recipe", '["turn"]'], "has no augmentation 'turn'; allowed: crop, flip, "),
        (["--views", "none"], "--views is 'none'; expected a count, or 'all'"),
        (["--views", "2", "--recipe", '["flip"]'], "the logits are of 1 view, --views 2 with this recipe makes 2"),
        (["--views", "all", "--recipe", '["flip"]'], "the logits are of 1 view, --views all with this recipe makes 2"),
        (["--seed", "-1"], "--seed is -1; expected 0 to 2^63 - 1"),
        (["--encoding", "zip"], "--encoding is 'zip'; expected one of f16, u8, i16, topk, sampled"),
        (["--data", "none.h5"], "none.h5: no such file; run `prepkd prepare`"),
        (["--params", "none.yaml"], "none.yaml: no such file"),
        (["-S", "cache.colour=1"], "unknown key cache.colour"),
    ],
)
def test_options_that_make_no_sense(project: Path, options: list[str], message: str) -> None:
    np.save("z.npy", made_up()[0].numpy())
    assert message in refused("import", "z.npy", "large", *options)
    assert "NAME is 'a/b'; expected letters" in refused("import", "z.npy", "a/b")


def test_under_the_name_of_a_trained_teacher_no_command_is_printed_that_fails(project: Path) -> None:
    np.save("z.npy", made_up()[0].numpy())
    there = Path("models/teachers/large")
    there.mkdir(parents=True)
    line = prepkd("import", "z.npy", "large").splitlines()[-1]
    assert line == f"to learn from it: import under another name: students of 'large' are checked against {there}"
    assert "ViewDataset" in prepkd("import", "z.npy", "large", "--to", "elsewhere.zarr").splitlines()[-1]


def test_a_store_that_was_there_survives_a_refusal_and_is_replaced_by_a_success(project: Path) -> None:
    np.save("z.npy", made_up()[0].numpy())
    prepkd("import", "z.npy", "large")
    np.save("y.npy", changed(made_up(1)[0], -7e4).numpy())
    refused("import", "y.npy", "large")  # logits whose range f16 cannot hold
    prepkd("import", "y.npy", "large", "--encoding", "u8", "--replace")
    assert LogitStore.open("data/logits/large.zarr").attributes.teacher.source["file"] == "y.npy"


def test_help_fits_a_narrow_terminal_and_says_where_it_writes() -> None:
    text = prepkd("import", "--help", columns=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "data/logits/NAME.zarr" in text and "--recipe" in text

"""`prepkd inspect` on stores of the digits pipeline: finished, unfinished, fetched in part and damaged."""

import contextlib
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import ROOT, invoke, prepkd_process
from PIL import Image
from prepkd.data.prepared.file import load_split
from prepkd.store import LogitStore

STORE = "data/logits/large.zarr"


def prepkd(*arguments: str, cwd: Path, code: int = 0, columns: int = 200) -> str:
    """Run a command in this process; return its standard output, or its error line if `code` is not 0."""
    threads = torch.get_num_threads()
    with contextlib.chdir(cwd), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREPKD_SCRATCH", str(cwd / "scratch"))
        done = invoke(*arguments, columns=columns)
    torch.set_num_threads(threads)
    assert done.exit_code == code, f"{done.output}{done.exception!r}"
    if code == 0:
        return done.stdout
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, a teacher, its store and a student, made with reduced default settings."""
    folder = tmp_path_factory.mktemp("pipeline")
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("subset: null", "subset: 12").replace("epochs: 30", "epochs: 2").replace("seeds: 5", "seeds: 1")
    (folder / "params.yaml").write_text(text.replace("model: resnet8", "model: convnet4"))
    for stage in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"], ["distill"]):
        prepkd_process(*stage, cwd=folder)
    return folder


@pytest.fixture
def project(pipeline: Path, tmp_path: Path) -> Path:
    """A copy of the pipeline that a test may damage."""
    return shutil.copytree(pipeline, tmp_path / "project")


def test_help_says_what_it_needs_and_fits_a_narrow_terminal(tmp_path: Path) -> None:
    text = prepkd_process("inspect", "--help", cwd=tmp_path, columns=60)
    assert max(map(len, text.splitlines())) <= 60
    for option in ("STORE", "--data", "--select", "--tau", "--student", "--params", "--set", "--out", "--json"):
        assert option in text, option


def test_the_manifests_sha256_is_stated(project: Path) -> None:
    """`cache-logits` prints the manifest's sha256 for a new and for a finished store, and `inspect` shows it."""
    digest = hashlib.sha256((project / STORE / "manifest.json").read_bytes()).hexdigest()
    with contextlib.chdir(project), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREPKD_SCRATCH", str(project / "scratch"))
        for again in (False, True):
            if not again:
                shutil.rmtree(STORE)
            assert (
                invoke("cache-logits", "large").stderr.splitlines()[-1] == f"{STORE}: sha256 of its manifest {digest}"
            )
    words = prepkd("inspect", STORE, cwd=project).split()
    assert words[words.index("manifest") + 1] == digest
    assert json.loads(prepkd("inspect", STORE, "--json", cwd=project))["facts"]["manifest_sha256"] == digest


@pytest.mark.parametrize("columns", [60, 100])
def test_tables_and_picture(project: Path, columns: int) -> None:
    text = prepkd_process("inspect", STORE, "--student", "models/student/seed0", cwd=project, columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    words = " ".join(text.split())
    for part in (
        "finished: 9 of 9 chunks",
        "9 views x 120 samples x 10 classes",
        "26.0 stated",
        "measured on 120 rows",
        "digits, split train",
        "large, model convnet4",
        "crop padding 1",
        "Teacher error per class, the worst 5 of 10, over 8 views",
        "8 of 9 views (0:4,5:9)",
        "weights' mean is over batches of 64",
        "Left out: 1 of the views; `--select 0:9` reads all",
    ):
        assert part in words, part
    with Image.open(project / "results/inspect/large.png") as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 10


def inspected(project: Path, *options: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(prepkd("inspect", *options, "--json", cwd=project))
    return report


def test_json_is_one_object_with_the_figures_of_the_store(project: Path) -> None:
    options = ["--select", "0:9", "--tau", "2", "--out", "pictures", "--student", "models/student/seed0"]
    text = prepkd("inspect", STORE, *options, "-S", "distill.dtd.tau_max=2.1", "--json", cwd=project)
    report = json.loads(text)
    assert text == json.dumps(report, sort_keys=True, indent=2) + "\n"
    assert report["picture"] == "pictures/large.png" and (project / "pictures/large.png").is_file()
    assert report["views_read"] == list(range(9)) and report["left_out"] == []
    store, labels = LogitStore.open(project / STORE), load_split(project / "data/digits.h5", "train").labels
    wrong = np.array([store.slab(view)[0][np.arange(120), labels] < 0 for view in range(9)])
    assert report["ka"]["rows_wrong"] == wrong.sum()
    assert report["ka"]["samples_wrong_in_a_view"] == wrong.any(axis=0).sum()
    assert report["ka"]["samples_wrong_in_all_views"] == wrong.all(axis=0).sum()
    assert report["teacher_error"]["per_view"] == pytest.approx(wrong.mean(axis=1).tolist())
    assert {row["class"]: row["error"] for row in report["class_error"]} == pytest.approx(
        {str(k): wrong[:, labels == k].mean() for k in range(10)}
    )
    assert set(report["confidence"]) == {"1", "2", "edges"}
    odds = np.exp(np.concatenate([store.slab(view)[0].astype(float) for view in range(9)]) / 2)
    assert report["confidence"]["2"]["mean"] == pytest.approx((odds.max(axis=1) / odds.sum(axis=1)).mean())
    assert report["dtd"]["settings"]["tau_max"] == 2.1 and report["dtd"]["batch_size"] == 64
    for values in report["dtd"]["methods"].values():
        assert 1.0 <= values["min"] <= values["mean"] <= values["max"] <= 2.1 + 1e-6
        assert sum(values["histogram"]) == 9 * 120
    assert report["facts"]["attributes"] == store.attributes.model_dump()


def test_some_views_only(project: Path) -> None:
    report = inspected(project, STORE, "--select", "2:4")
    assert report["views_read"] == [2, 3]
    assert report["ka"]["rows"] == 240 and len(report["teacher_error"]["per_view"]) == 9
    assert "dtd" not in report


def test_without_the_data_the_rest_still_works(project: Path) -> None:
    (project / "data/digits.h5").rename(project / "elsewhere.h5")
    report = inspected(project, STORE)
    assert "ka" not in report and "class_error" not in report
    assert report["teacher_error"]["mean"] > 0 and report["confidence"]["1"]["mean"] > 0
    assert report["left_out"][-1] == (
        "errors per class and KA's share, which need labels: data/digits.h5 is not there; name the data with --data"
    )
    assert inspected(project, STORE, "--data", "elsewhere.h5")["ka"]["rows"] == 960
    text = prepkd("inspect", STORE, "--student", "models/student/seed0", cwd=project, code=2)
    assert "--student looks at the images: data/digits.h5 is not there; name the data with --data" in text


def test_a_store_needs_no_project_around_it(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    report = inspected(elsewhere, (project / STORE).as_uri())
    assert report["facts"]["store"] == (project / STORE).as_uri()
    here = inspected(project, STORE)
    assert report["facts"]["bytes"] == here["facts"]["bytes"] and report["confidence"] == here["confidence"]
    assert (elsewhere / "results/inspect/large.png").is_file()


def test_an_unfinished_store_is_shown_as_that(project: Path) -> None:
    (project / STORE / "manifest.json").unlink()
    for view in (2, 7):
        (project / STORE / f"logits/c/{view}/0/0").unlink()
    text = " ".join(prepkd("inspect", STORE, cwd=project, columns=60).split())
    assert "UNFINISHED: 7 of 9 chunks; run cache-logits again to continue" in text
    assert "Left out: statistics: the store is unfinished" in text
    assert not (project / "results/inspect").exists()
    facts = inspected(project, STORE)["facts"]
    assert facts["finished"] is False and facts["views_there"] == [0, 1, 3, 4, 5, 6, 8]


@pytest.mark.parametrize("text", ["{", "{}", "null", '{"attributes": []}'])
def test_torn_descriptions_in_scratch_are_ignored(project: Path, text: str) -> None:
    torn = project / "scratch/feed/store.zarr/zarr.json"
    torn.parent.mkdir(parents=True)
    torn.write_text(text)
    error = prepkd("inspect", "data/logits/none.zarr", cwd=project, code=2)
    assert error.startswith("error: data/logits/none.zarr: no such store; ")


def test_a_store_that_grows_in_scratch_is_found(project: Path) -> None:
    (project / STORE / "manifest.json").unlink()
    (project / "scratch").mkdir(exist_ok=True)
    shutil.copytree(project / STORE, project / "scratch/cafe/store.zarr")
    shutil.rmtree(project / STORE)
    facts = inspected(project, STORE)["facts"]
    assert facts["store"] == str(project / "scratch/cafe/store.zarr") and not facts["finished"]
    assert "data/logits/small.zarr: no such store" in prepkd("inspect", "data/logits/small.zarr", cwd=project, code=2)
    shutil.copytree(project / "scratch/cafe", project / "scratch/f00d")
    assert "unfinished ones are" in prepkd("inspect", STORE, cwd=project, code=2)


def test_a_damaged_store_is_refused_and_the_chunk_named(project: Path) -> None:
    path = project / STORE / "logits/c/5/0/0"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7] + b"damaged")
    text = prepkd("inspect", STORE, cwd=project, code=2)
    assert re.match(rf"error: {STORE}: logits/c/5/0/0: sha256 is [0-9a-f]{{12}}, the manifest says", text)
    path.unlink()
    assert f"error: {STORE}: logits/c/5/0/0 is missing" in prepkd("inspect", STORE, cwd=project, code=2)
    assert not (project / "results/inspect").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.zarr"], "none.zarr: no such store; run `prepkd cache-logits NAME`"),
        (["data"], "data: neither manifest.json nor zarr.json, so it is not a store of prepkd"),
        (
            [STORE, "--select", "4:4"],
            "--select is '4:4'; expected a view, a range a:b, or several joined by commas: 0:8,12",
        ),
        ([STORE, "--select", "4:10"], "--select is '4:10'; the store has 9 views, 0 to 8"),
        ([STORE, "--tau", "0"], "--tau is 0; expected a finite number above 0"),
        ([STORE, "--data", "none.h5"], "none.h5: no such file; run `prepkd prepare`"),
        ([STORE, "--student", "models/none"], "models/none/model.json: no such file; run `prepkd distill`"),
        ([STORE, "--student", "models/student/seed0", "--params", "none.yaml"], "none.yaml: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(pipeline: Path, arguments: list[str], message: str) -> None:
    assert message in prepkd("inspect", *arguments, cwd=pipeline, code=2)


def test_a_students_temperatures_from_log_probabilities_are_doubtful(project: Path) -> None:
    store = LogitStore.open(project / STORE)
    raw = torch.from_numpy(np.stack([store.logits(view) for view in range(store.views)])).float()
    np.save(project / "log.npy", raw[0].log_softmax(-1).numpy())
    np.save(project / "raw.npy", raw[0].numpy())
    for name, says in (("log", ["warning: ", "every row's log-sum-exp is 0"]), ("raw", [])):
        prepkd("import", f"{name}.npy", "large", "--to", f"{name}.zarr", cwd=project)
        text = prepkd("inspect", f"{name}.zarr", "--student", "models/student/seed0", cwd=project)
        assert "Temperatures under DTD" in text and ("log-sum-exp" in text) is bool(says)
        assert all(one in text for one in says)


def test_data_of_another_split_is_refused(project: Path) -> None:
    prepkd("prepare", "--replace", "-S", "prepare.seed=1", cwd=project)
    text = prepkd("inspect", STORE, cwd=project, code=2)
    assert re.search(
        r"against data/digits\.h5: dataset\.split_fingerprint is [0-9a-f]{12}, expected [0-9a-f]{12}; name the file",
        text,
    )

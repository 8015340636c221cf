"""`prepkd verify`: a correct store passes, a wrong one fails, and an inconclusive comparison is WITHHELD."""

import json
import re
import shutil
from pathlib import Path

import commands
import pytest
import torch
from commands import ROOT
from prepkd.data.prepared.file import load_split
from prepkd.models import load_checkpoint
from prepkd.models.checkpoint import save_checkpoint
from prepkd.store import LogitStore
from prepkd.verification.controls import CONTROLS
from prepkd.views.crop import Crop
from verified_stores import (
    SETTINGS,
    one_view_rolled,
    opened,
    prepkd,
    rewritten,
    same,
    shifted_maxima,
    verify,
)


def refused(store: str, *arguments: str) -> str:
    """The error line of `prepkd verify`; standard output stays empty."""
    done = verify(store, *arguments, code=2)
    assert done.stdout == "" and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.output
    return done.stderr


def ignorant(folder: Path) -> None:
    """Replace the teacher by a teacher that gives the same logits for every image."""
    model, card = load_checkpoint(folder / "models/teachers/large")
    torch.nn.init.zeros_(model.body.fc.weight)  # type: ignore[union-attr,arg-type]
    save_checkpoint(folder / "models/teachers/large", model, card)


def test_pass_is_exit_code_0_and_the_same_seed_gives_the_same_figures(project: Path) -> None:
    first, again, other = (
        verify("f16/large.zarr", "--seed", seed, "--samples", "90", "--json", code=0).stdout for seed in ("4", "4", "5")
    )
    assert first == again != other
    report = json.loads(first)
    assert report["verdict"] == "PASS" and report["samples"] == 90 and report["seed"] == 4
    assert first == json.dumps(report, sort_keys=True, indent=2) + "\n"
    assert report["device"] == report["written_on"] == "cpu, 1 threads"
    drawn = json.loads(verify("f16/large.zarr", "--json", code=0).stdout)
    seed = str(drawn["seed"])
    assert json.loads(verify("f16/large.zarr", "--json", "--seed", seed, code=0).stdout) == drawn


def test_a_narrow_terminal_shows_every_row(project: Path) -> None:
    lines = verify("u8/large.zarr", "--seed", "1", code=0, columns=60).stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 60
    starts = ("teacher", "shuffled index", "inverted flip", "neighbouring view", "wrong")
    rows = [next(line for line in lines if line.startswith(start)) for start in starts]
    assert rows[0].endswith("within") and all(row.endswith("outside") for row in rows[1:])
    assert all(sum(part[0].isdigit() for part in row.split()) == 4 for row in rows)
    assert lines[-1].startswith("PASS: 512 stored rows of 4 views") and "all 4 controls failed" in lines[-1]
    text = " ".join(line.strip() for line in lines)
    assert "--seed 1 draws them again" in text
    assert "pixels of views 0, 3, samples 0 to 63: sha256 " in text
    assert "equal to what was recorded as the store was written" in text
    assert "tolerance: |dz| beyond the encoding's error" in text


def test_a_stores_own_claim_of_bf16_does_not_loosen_the_settings(project: Path) -> None:
    """The store claims bf16, and its error is within bf16's rounding but not within float32's."""
    store = opened(project)[0]
    claimed = store.attributes.model_dump()["precision"] | {"arithmetic": "bf16"}
    rewritten(
        store, project / "t.zarr", lambda _, stored: stored | {"row_max": stored["row_max"] + 0.008}, precision=claimed
    )
    last = verify("t.zarr", "--seed", "0", code=0).stdout
    assert "the rounding of bf16" in " ".join(last.split())
    verify("t.zarr", "--precision", "ieee", code=1)
    shutil.copy(ROOT / "params.yaml", project)
    report = json.loads(verify("t.zarr", "--json", code=1).stdout)
    assert (report["precision"], report["tolerance"], report["verdict"]) == ("bf16", "ieee", "FAIL")
    assert json.loads(verify("t.zarr", "--precision", "bf16", "--json", code=0).stdout)["tolerance"] == "bf16"
    assert "--precision is 'half'; expected one of ieee, tf32, bf16" in refused("t.zarr", "--precision", "half")
    # Settings looser than the store's claim do not loosen the tolerance.
    text = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  precision: ieee", "  precision: bf16"))
    assert json.loads(verify("f16/large.zarr", "--json", code=0).stdout)["tolerance"] == "ieee"


def test_a_tampered_store_fails_with_exit_code_1(project: Path) -> None:
    rewritten(opened(project)[0], project / "t.zarr", one_view_rolled)
    last = verify("t.zarr", "--seed", "0", code=1).stdout.splitlines()[-1]
    assert last.startswith("FAIL: the live teacher's logits are not the stored ones")
    assert json.loads(verify("t.zarr", "--json", "--seed", "0", code=1).stdout)["verdict"] == "FAIL"


def test_a_teacher_that_ignores_its_input_is_withheld_and_a_tampered_store_of_it_fails(project: Path) -> None:
    ignorant(project)
    shutil.copy(ROOT / "params.yaml", project)
    prepkd("cache-logits", "large", cache__root="blind")
    last = verify("blind/large.zarr", code=1).stdout.splitlines()[-1]
    assert last.startswith("WITHHELD: ") and all(name in last for name in CONTROLS)
    store = LogitStore.open("blind/large.zarr")
    rewritten(store, project / "t.zarr", shifted_maxima)
    assert verify("t.zarr", code=1).stdout.splitlines()[-1].startswith("FAIL: ")


def test_pixels_that_are_rendered_otherwise_fail_though_no_logit_differs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignorant(project)
    shutil.copy(ROOT / "params.yaml", project)
    prepkd("cache-logits", "large", cache__root="blind")
    recorded = LogitStore.open("blind/large.zarr").attributes.pixels.sha256
    render = Crop.render
    monkeypatch.setattr(Crop, "render", lambda *arguments: render(*arguments).roll(1, dims=-1))
    report = json.loads(verify("blind/large.zarr", "--json", code=1).stdout)
    assert report["teacher"]["within"] and report["verdict"] == "FAIL"
    assert report["pixels"]["replayed"] != recorded
    last = verify("blind/large.zarr", code=1).stdout.splitlines()[-1]
    replayed = report["pixels"]["replayed"][:12]
    assert last == f"FAIL: the replayed pixels' hash is {replayed}, the store says {recorded[:12]}"


def test_another_teacher_is_refused_naming_the_field_and_both_values(project: Path) -> None:
    _, card = load_checkpoint(project / "models/teachers/large")
    shutil.copytree("models/teachers/large", "models/teachers/own")
    ignorant(project)
    _, other = load_checkpoint(project / "models/teachers/large")
    text = refused("f16/large.zarr")
    values = f"is {card['weights_fingerprint'][:12]}, expected {other['weights_fingerprint'][:12]}"
    assert f"f16/large.zarr against models/teachers/large: teacher.weights_fingerprint {values}; name the " in text
    assert "--teacher" in text
    assert refused("f16/large.zarr", "--teacher", "models/teachers/large") == text
    verify("f16/large.zarr", "--teacher", "models/teachers/own", code=0)


def test_other_data_is_refused_naming_the_field_and_both_values(project: Path) -> None:
    shutil.copy(ROOT / "params.yaml", project)
    shutil.copy("data/digits.h5", "own.h5")
    prepkd("prepare", "--replace", prepare__seed=3)
    own, other = (load_split(Path(path), "train").fingerprint[:12] for path in ("own.h5", "data/digits.h5"))
    text = refused("f16/large.zarr")
    assert f"f16/large.zarr against data/digits.h5: dataset.split_fingerprint is {own}, expected {other}; name " in text
    assert "--data" in text
    verify("f16/large.zarr", "--data", "own.h5", code=0)


def test_what_is_missing_is_named_with_the_option_that_brings_it(project: Path) -> None:
    assert "none.zarr: no such store" in refused("none.zarr")
    shutil.rmtree("models")
    text = refused("f16/large.zarr")
    assert "models/teachers/large/" in text and "--teacher" in text
    shutil.rmtree("data")
    text = refused("f16/large.zarr")
    assert "data/digits.h5: no such file" in text and "--data" in text
    assert "--seed" in verify("f16/large.zarr", "--seed", "-1", code=2).output


def test_an_imported_store_needs_a_teacher_to_compare_with(project: Path) -> None:
    store = opened(project)[0]
    unknown = {"weights_fingerprint": None, "preprocessing": None, "model": "imported", "name": "large"}
    nobody = {"arithmetic": "unknown", "batch_size": None, "device": "unknown"}
    rewritten(store, project / "i.zarr", same, teacher=unknown, precision=nobody)
    text = refused("i.zarr")
    assert "imported" in text and "can't be verified" in text and "--teacher" in text
    report = json.loads(verify("i.zarr", "--json", "--teacher", "models/teachers/large", code=0).stdout)
    assert report["imported"] and report["precision"] == "unknown" and report["verdict"] == "PASS"
    rewritten(store, project / "j.zarr", one_view_rolled, teacher=unknown, precision=nobody)
    verify("j.zarr", "--teacher", "models/teachers/large", code=1)


def test_a_store_at_a_url_is_verified(project: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").put("f16/large.zarr", "/verify/large.zarr", recursive=True)
    assert json.loads(verify("memory://verify/large.zarr", "--json", code=0).stdout)["verdict"] == "PASS"


def test_integrity_counts_the_files_or_names_the_damaged_ones(project: Path) -> None:
    files = [path for path in Path("f16/large.zarr").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    shutil.rmtree("models")  # neither teacher nor data are needed
    shutil.rmtree("data")
    text = verify("f16/large.zarr", "--integrity", code=0).stdout
    assert text == f"intact: {len(files):,} files, {size:,} bytes\n"
    report = json.loads(verify("f16/large.zarr", "--integrity", "--json", code=0).stdout)
    assert (report["intact"], report["files"], report["bytes"], report["damages"]) == (True, len(files), size, [])
    chunk = Path("f16/large.zarr/logits/c/2/0/0")
    content = bytearray(chunk.read_bytes())
    content[7] ^= 1
    chunk.write_bytes(content)
    lines = verify("f16/large.zarr", "--integrity", code=1, columns=60).stdout.splitlines()
    assert lines[-1] == "damaged: 1 file" and "logits" in lines[1]
    report = json.loads(verify("f16/large.zarr", "--integrity", "--json", code=1).stdout)
    assert [(d["array"], d["chunk"]) for d in report["damages"]] == [("logits", "logits/c/2/0/0")]
    assert "none.zarr" in refused("none.zarr", "--integrity")


def test_help_fits_a_narrow_terminal(tmp_path: Path) -> None:
    text = commands.run("prepkd verify --help", tmp_path, COLUMNS="60", TERM="dumb")
    assert max(map(len, text.splitlines())) <= 60
    assert "--integrity" in text and "params.yaml" in text


def test_distill_refuses_a_store_whose_first_batch_is_not_the_teachers(project: Path) -> None:
    shutil.copy(ROOT / "params.yaml", project)
    rewritten(opened(project)[0], project / "bad/large.zarr", shifted_maxima)
    done = commands.invoke("distill", **SETTINGS, cache__root="bad")
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output
    assert "bad/large.zarr: view " in done.stderr and "the live teacher's logits are not the stored ones" in done.stderr
    assert re.search(r"\|dz\| beyond the encoding's error [\d.e+-]+ \(allowed [\d.e+-]+\), KL at tau 4 ", done.stderr)
    assert "`prepkd verify bad/large.zarr` looks closer" in done.stderr
    assert not Path("models/student").exists() and not Path("results").exists()
    prepkd("distill", cache__root="f16")
    shutil.rmtree("models/student")
    shutil.move("models/teachers/large", "large")  # no live teacher is left to compare with
    prepkd("distill", cache__root="bad")
    assert Path("models/student/seed0/model.json").is_file()

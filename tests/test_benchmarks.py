"""The benchmarks run in seconds on random data and write and print every expected result; their speeds aren't checked."""

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import preloaded
import pytest
import torch
from commands import ROOT
from safetensors.torch import save_file

sys.path.insert(0, str(ROOT))
from benchmarks import (
    decode,
    drawn_classes,
    encodings,
    epoch,
    fingerprints,
    live_teacher,
    losses,
    methods,
    plan,
    scaling,
    store,
)
from benchmarks._measure import interleaved, interval, ratio, rendered

MODULES = {"store": store, "encodings": encodings, "decode": decode, "scaling": scaling, "plan": plan}
TINY = {
    "store": "--rounds 2 --file-rounds 1 --size 40 --views 2 --samples 20 --cache-views 1 --digits-samples 30",
    "encodings": "--samples 40 --views 2",
    "decode": "--count 24 --side 80 --batch-size 8 --rounds 1 --workers 1 --bounded-megabytes 1",
    "scaling": "--factor 1 --factor 2 --rounds 1 --streamed-views 40",
    "plan": "--run topk --share 0.04 --large-samples 3000",
}


def run(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    out = folder / f"{name}.json"
    threads = torch.get_num_threads()
    MODULES[name].main([*TINY[name].split(), "--folder", str(folder), "--out", str(out)])
    torch.set_num_threads(threads)
    assert [path.name for path in folder.iterdir()] == [out.name], "temporary files are left"
    return json.loads(out.read_text()), capsys.readouterr().out


def ratios(value: Any) -> Iterator[dict[str, float]]:
    """Yield every ratio in a result."""
    for part in value.values() if isinstance(value, dict) else []:
        if isinstance(part, dict) and part.keys() == {"median", "low", "high"}:
            yield part
        else:
            yield from ratios(part)


def check_environment(result: dict[str, Any]) -> None:
    assert result["machine"].keys() == {"processor", "cores", "threads", "system"}
    assert {"python", "torch", "numpy", "zarr", "numcodecs", "h5py"} <= result["versions"].keys()
    assert len(result["commit"].split()[0]) == 40
    assert result["command"].startswith("python -m benchmarks.")


def test_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, printed = run("store", tmp_path, capsys)
    check_environment(result)
    others = {"raw .npy", "HDF5, fletcher32", "torch.save a sample"}
    assert result["read"].keys() == {"numpy memmap", "store, first reading", "store, again"} | others
    assert result["write"].keys() == {"raw files", "store", "store of one view"} | others
    assert result["lookup"].keys() == {"numpy memmap", "resident teacher", "LogitStore.lookup"} | others
    assert result["cache"].keys() == {"CIFAR-100", "digits"}
    assert all(part["images"].startswith("synthetic") for part in result["cache"].values())
    assert result["bytes_per_view"] == 40 * (200 + 4 + 3)
    found = list(ratios(result))
    assert len(found) == 3 * 6 + 2 * 3
    assert all(0 < ratio["low"] <= ratio["median"] <= ratio["high"] < math.inf for ratio in found)
    for key in ("read", "write", "lookup"):
        assert {name: case["rounds"] for name, case in result[key].items() if case["rounds"] != 2} == (
            {} if key == "lookup" else {"torch.save a sample": 1}
        )
        assert all(name in printed for name in result[key])


def test_encodings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, printed = run("encodings", tmp_path, capsys)
    check_environment(result)
    found = result["encodings"]
    assert found.keys() == {"f16", "u8", "i16", "topk, k = 8", "topk, k = 16", "topk, k = 32"}
    assert all(name in printed for name in found)
    for case in found.values():
        assert case["rows"] == result["rows"] == 80
        assert case["kl_mean"].keys() == case["kl_max"].keys() == {"1", "2", "4", "8"}
        assert 0 <= case["kl_mean"]["4"] <= case["kl_max"]["4"]
        assert case["argmax_flips"] == 0
        assert case["bytes_per_row"] == pytest.approx(sum(case["bytes_per_row_of_arrays"].values()))
        assert case["other_bytes"] > 0
    # Per row 100 float16, one float32, 3 int8; one crc32c per chunk, two chunks for each of three arrays.
    assert found["f16"]["bytes_per_row"] == 100 * 2 + 4 + 3 + 2 * 3 * 4 / 80
    kept = [found[f"topk, k = {k}"]["kl_mean"]["4"] for k in (8, 16, 32)]
    assert kept[0] > kept[1] > kept[2] > found["u8"]["kl_mean"]["4"] > found["f16"]["kl_mean"]["4"]


def test_drawn_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    drawn_classes.main(["--rows", "8", "--draws", "40", "--out", str(tmp_path / "out.json")])
    torch.set_num_threads(threads)
    result, printed = json.loads((tmp_path / "out.json").read_text()), capsys.readouterr().out
    check_environment(result)
    assert result["sets"].keys() == {"100", "1000"}
    for classes, one in result["sets"].items():
        targets, small = (
            one["targets"],
            {"100": ("topk, k = 16", "sampled, n = 14"), "1000": ("topk, k = 22", "sampled, n = 20")},
        )
        assert one["images"].startswith("synthetic") and all(name in printed for name in targets)
        exact = targets["full"]["4"]
        assert max(exact["bias"], exact["kl_expected"], targets["u8"]["4"]["spread"]) < 1e-8
        topk, sampled = (targets[name] for name in small[classes])
        assert abs(topk["bytes_per_row"] - sampled["bytes_per_row"]) < 8 and topk["4"]["spread"] < 1e-8
        assert topk["4"]["bias"] > 0.01 and sampled["4"]["spread"] > topk["4"]["bias"], "a flat tail, and a draw"
        assert sampled["4"]["bias"] < 3 * sampled["4"]["bias_resolution"], "no bias that the draws could show"


def test_drawn_classes_students() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 60, 8, generator=generator)
    logits = features @ torch.randn(8, 100, generator=generator)
    data = drawn_classes.Data(logits, logits[0].argmax(-1), {}, features, (features[0], logits[0].argmax(-1)))
    chosen = {name: case for name, case in drawn_classes.cases(100).items() if name in ("full", "sampled, n = 30")}
    found = drawn_classes.students(data, chosen, 2, 60)["top1"]
    assert found.keys() == chosen.keys()
    for one in found.values():
        assert len(one["top1"]) == 2 and one["mean"] == statistics.mean(one["top1"]) > 0.3


def test_decode(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks._project.PYTHON", str(preloaded.commands() / "python"))
    result, printed = run("decode", tmp_path, capsys)
    check_environment(result)
    assert result["images_per_second"].keys() == {"torchvision DataLoader", "prepkd"}
    bound = result["bounded"]
    assert bound["data"] >= 1 and bound["images"] % 24 == 0 and 0 < bound["peak"] < bound["limit"]
    assert result["peak_memory"].keys() == {"own", "largest child"} and "images/s" in printed


def test_scaling(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "PYTHON", str(preloaded.commands() / "python"))
    result, _ = run("scaling", tmp_path, capsys)
    check_environment(result)
    sizes = result["sizes"]
    assert sizes.keys() == {f"{key} x {factor}" for key in ("samples", "views", "classes") for factor in (1, 2)}
    assert all(found["write"] > 0 and found["read"] > 0 and found["memory"] >= 0 for found in sizes.values())
    found = result["streamed"]
    assert found["views"] == 40 and 0 < found["peak"] < found["limit"] < found["data"]
    # Per row 10 float16, one float32 and one int8 for the flip; the metadata and the manifest add to that.
    assert sizes["views x 2"]["bytes"] > sizes["views x 1"]["bytes"] > 2_000 * 2 * (10 * 2 + 4 + 1)


def test_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PYTHON", str(preloaded.commands() / "python"))
    monkeypatch.setattr("benchmarks._project.PYTHON", str(preloaded.commands() / "python"))
    result, printed = run("plan", tmp_path, capsys)
    check_environment(result)
    assert result["runs"].keys() == {"topk, 1,000 classes"}
    (found,) = result["runs"].values()
    # Differences of small figures may have either sign here: the epoch time saved by the cache, the memory above a small run's.
    small = [name for name in found if name.startswith(("paid for", "of it beside"))]
    figures = {name: one for name, one in found.items() if name not in small}
    assert len(small) == 3 and found[small[0]]["planned"] == 4
    assert all(one["ratio"] == one["planned"] / one["measured"] > 0 for one in figures.values())
    assert figures["files"]["ratio"] == 1 and 0.9 < figures["bytes on disk"]["ratio"] <= 1
    assert all(name in printed for name in figures)
    large = result["large"]
    assert large["files"] == large["measured_files"] and 0.9 < large["bytes"] / large["measured_bytes"] <= 1
    for one in (large["write"], large["read"]):
        assert one["peak"] > 0 and one["limit"] == pytest.approx(plan.SLACK * one["planned"] + plan.ROOM, rel=1e-6)
    assert len(large["read"]["seconds"]) == plan.LARGE["views"] and large["read"]["read"] > large["epoch_bytes"]


LOOP = """
def train_distill(epoch, train_loader, module_list, criterion_list, optimizer, opt):
    student, teacher = module_list
    for images, labels, index in train_loader:
        assert images.shape[1:] == (3, 32, 32) and len(labels) == len(index)
        logits = student(images, is_feat=True, preact=False)[1]
        asked = teacher(images, is_feat=True, preact=False)[1].detach()
        loss = opt.gamma * criterion_list[0](logits, labels) + opt.alpha * criterion_list[1](logits, asked)
        loss.backward()
        optimizer.step()
"""


def test_live_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("benchmarks._project", "benchmarks.plan"):
        monkeypatch.setattr(f"{module}.PYTHON", str(preloaded.commands() / "python"))
    peer = tmp_path / "peer"
    for path, text in {
        "helper/loops.py": LOOP,
        "distiller_zoo/KD.py": "from torch import nn\n\n\ndef DistillKL(tau):\n    return nn.MSELoss()\n",
    }.items():
        (peer / path).parent.mkdir(parents=True)
        (peer / path).write_text(text)
    out, threads = tmp_path / "live.json", torch.get_num_threads()
    options = f"--teacher resnet8 --samples 512 --rounds 1 --repdistiller {peer} --out {out}"
    try:
        live_teacher.main(options.split())
    finally:
        torch.set_num_threads(threads)
        for name in ("helper", "helper.loops", "distiller_zoo", "distiller_zoo.KD"):
            sys.modules.pop(name, None)
    result = json.loads(out.read_text())
    check_environment(result)
    cases = [live_teacher.PEER, *live_teacher.CASES]
    assert list(result["images_per_second"]) == cases
    rates = {case: found[0] for case, found in result["images_per_second"].items()}
    assert all(0 < rate < math.inf for rate in rates.values()) and result["teacher_images_per_second"] > 0
    printed = capsys.readouterr().out
    assert all(f"| {case} " in printed for case in cases)
    (_, costs) = live_teacher.tables(result).values()
    # 50 trainings of 30 epochs run a live teacher on all images 1,500 times; with a store it runs 32 times.
    assert {row[0]: row[1] for row in costs[1]} == {case: "32" if "cached" in case else "1,500" for case in cases}
    hours = 1_500 * 50_000 / rates[live_teacher.PEER] / 3600
    assert float(costs[1][0][3]) == pytest.approx(hours, abs=0.06)


def test_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, threads = tmp_path / "methods.json", torch.get_num_threads()
    only = ("lsr", "disturb-label", "noisy-teacher", "ls", "at", "crd", "fsp+rkd")
    options = [part for method in only for part in ("--only", method)]
    methods.main([*options, "--rounds", "1", "--steps", "1", "--batch-size", "8", "--out", str(out)])
    torch.set_num_threads(threads)
    result = json.loads(out.read_text())
    check_environment(result)
    found = result["methods"]
    assert list(found) == ["ce", "kd", *only]
    assert {name for name, one in found.items() if one["of"] == "kd"} == {"at", "crd", "fsp+rkd"}
    # resnet20 has maps of 32x32, 16x16 and 8x8, a vector of 64, and Gram matrices of 16x16, 16x32 and 32x64 channels.
    assert (found["at"]["bytes"], found["crd"]["bytes"]) == (2 * (1024 + 256 + 64), 4 * 64)
    assert found["fsp+rkd"]["bytes"] == 4 * (16 * 16 + 16 * 32 + 32 * 64 + 64)
    assert found["crd"]["adapter_parameters"] == 2 * (64 * 128 + 128)
    assert all(0 < one["ratio"]["median"] < math.inf for one in found.values())
    printed = capsys.readouterr().out
    assert "Logit terms" in printed
    assert "Feature terms" in printed


def test_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, threads = tmp_path / "losses.json", torch.get_num_threads()
    only = ("ka-ps+dtd-flsw", "dist")
    options = [part for method in only for part in ("--only", method)]
    losses.main([*options, "--rounds", "5", "--steps", "2", "--batch-size", "64", "--out", str(out)])
    torch.set_num_threads(threads)
    result = json.loads(out.read_text())
    check_environment(result)
    assert list(result["methods"]) == list(only)
    for one in result["methods"].values():
        share = one["share"]
        assert share["low"] <= share["median"] <= share["high"]
        assert share["median"] == pytest.approx(one["milliseconds"] / result["step_milliseconds"])
    assert "added to a step of" in capsys.readouterr().out


def test_allocator(tmp_path: Path) -> None:
    from benchmarks import allocator

    out = tmp_path / "found.json"
    allocator.main(f"--case|resnet20 answers|--rounds|1|--steps|1|--batch-size|8|--out|{out}".split("|"))
    result = json.loads(out.read_text())
    check_environment(result)
    found = result["cases"]["resnet20 answers"]
    assert found["samples_per_second"].keys() == found["peak_memory"].keys() == {"returned", "kept"}
    assert len(list(ratios(result))) == 1


def test_what_a_gpu_would_run_runs_on_a_cpu(tmp_path: Path) -> None:
    """benchmarks/gpu.sh runs steps, teacher passes and whole epochs; only the form of its results is checked."""
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), "--smoke", str(tmp_path)]
    # Forks of a process with the libraries imported start faster; the measured seconds don't matter here.
    python = str(preloaded.commands() / "python")
    done = subprocess.run(command, env={**os.environ, "PYTHON": python}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {file.stem: json.loads(file.read_text()) for file in tmp_path.glob("*.json")}
    assert found.keys() == {"step", "step-compiled", "methods", "pass-bf16", "pass-ieee", "epoch"}
    for result in found.values():
        check_environment(result)
        assert all(0 < one["low"] <= one["median"] <= one["high"] < math.inf for one in ratios(result))
    cases = {"ceiling", "plain CE", "cached KD", "cached KA+DTD", "online KD", "teacher's forward"}
    assert all(pair["cases"].keys() == cases for pair in found["step"]["pairs"].values())
    methods = ("plain CE", "cached KA+DTD")
    assert found["epoch"]["seconds"].keys() == {
        f"{case}: {what}"
        for case in ("ceiling", *methods, *(f"{method}, evaluated once" for method in methods))
        for what in ("start", "epoch", "whole process", "step", "pause", "later pause")
    }
    assert all(0 < one["ratio"]["low"] <= one["ratio"]["high"] < math.inf for one in found["epoch"]["ratios"])
    assert [(one["time"], one["of"], one["bar"]) for one in found["epoch"]["ratios"]] == list(epoch.BARS)
    assert done.stdout.count("to reach") == 6


def test_a_student_notes_the_moments_of_its_training(tmp_path: Path) -> None:
    notes = tmp_path / "notes.json"
    words = ["benchmarks._bare", "benchmarks._timed:resnet8", "8", "20", "3", "1", "float32"]  # 3 epochs of 3 steps

    def found(**variables: str) -> dict[str, list[Any]]:
        environment = {**os.environ, "NOTES": str(notes), **variables}
        subprocess.run([preloaded.commands() / "python", "-m", *words], cwd=ROOT, env=environment, check=True)
        return json.loads(notes.read_text())

    whole = found()
    assert (len(whole["epochs"]), len(whole["steps"]), len(whole["first step"])) == (3, 9, 1)
    assert whole["steps"][0][1] <= whole["first step"][0] < whole["steps"][1][0]
    steps = iter(whole["steps"])  # each is (start of the forward pass, end of the backward pass)
    moments = [moment for began in whole["epochs"] for part in ([began], *islice(steps, 3)) for moment in part]
    assert len(moments) == 3 * (1 + 3 * 2) and moments == sorted(moments)
    only = found(FIRST_STEP_ONLY="1")
    assert (len(only["epochs"]), len(only["steps"]), len(only["first step"])) == (1, 1, 1)


def test_pauses_lie_between_epochs() -> None:
    # Two steps per epoch, each of 1 s; the next step follows after 0.25 s, the next epoch after 4, then 2, then 3 s.
    steps = [[0, 1], [1.25, 2.25], [6.25, 7.25], [7.5, 8.5], [10.5, 11.5], [11.75, 12.75], [15.75, 16.75], [17, 18]]
    assert epoch.pauses(steps, 4) == {"step": 1, "pause": 4, "later pause": 3}
    assert epoch.pauses([], 4) == {}


def test_fingerprints_see_tensors_and_chunks_and_no_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def found() -> dict[str, str]:
        fingerprints.main([str(tmp_path)])
        lines = (line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
        return {subject: digest for digest, subject in lines}

    weights = tmp_path / "models/teachers/large/model.safetensors"
    store = tmp_path / "data/logits/large.zarr"
    for folder in (weights.parent, store):
        folder.mkdir(parents=True)
    save_file({"w": torch.zeros(3)}, weights, {"settings": "one"})
    (store / "manifest.json").write_text(json.dumps({"logits/c/0/0/0": "aa", "zarr.json": "bb"}))
    first = found()
    assert {name.removesuffix(": 5 views, pixels") for name in first if name.endswith("5 views, pixels")} == {
        f"views, {name}" for name in fingerprints.RECIPES
    }
    assert len({digest for name, digest in first.items() if "pixels" in name}) == sum(
        "pixels" in name for name in first
    )
    save_file({"w": torch.zeros(3)}, weights, {"settings": "two"})
    (store / "manifest.json").write_text(json.dumps({"logits/c/0/0/0": "aa", "zarr.json": "cc"}))
    second = found()
    assert {name for name in first if first[name] != second[name]} == {"data/logits/large.zarr: all files"}
    save_file({"w": torch.ones(3)}, weights, {"settings": "two"})
    (store / "manifest.json").write_text(json.dumps({"logits/c/0/0/0": "dd", "zarr.json": "cc"}))
    third = found()
    assert {name for name in first if second[name] != third[name]} == {
        "data/logits/large.zarr: all files",
        "data/logits/large.zarr: chunks",
        "models/teachers/large/model.safetensors",
    }


def test_wrong_views(tmp_path: Path) -> None:
    import elsewhere_files

    from benchmarks import wrong_views

    data = elsewhere_files.digits(tmp_path / "digits.h5")
    dataset = elsewhere_files.dataset_of(data, [{"crop": {"padding": 1}}], "all")
    elsewhere_files.write_store(tmp_path / "large.zarr", data, dataset)
    out = tmp_path / "found.json"
    wrong_views.main(f"--data {data} --store {tmp_path}/large.zarr --seeds 2 --epochs 1 --out {out}".split())
    result = json.loads(out.read_text())
    check_environment(result)
    assert list(result["top1"]) == list(wrong_views.CASES) and all(
        len(scores) == 2 for scores in result["top1"].values()
    )


def test_the_page_on_views_shows_what_was_measured() -> None:
    from benchmarks import wrong_views

    result = json.loads((ROOT / "benchmarks/results/wrong_views.json").read_text())
    header, rows = wrong_views.table({case: result["top1"][case] for case in wrong_views.CASES})
    assert rendered(header, rows) in (ROOT / "docs/explanation/views-are-data.md").read_text()


def test_the_benchmarks_page_shows_what_was_measured() -> None:
    from benchmarks import page

    text = page.PAGE.read_text()
    shown = {block[1] for block in page.BLOCK.finditer(text)}
    made = {"allocator", "step", "step-pairs", "step-float32", "epoch", "epoch-two-threads", "start"}
    made |= {"losses", "methods"}
    made |= {"live_teacher", "plan", "processes"}
    assert shown == made | {"decode", "scaling", "overheads", "verdicts", "drawn_classes"}
    assert page.filled(text) == text, "docs/benchmarks.md is out of date: run `make docs`"


def test_data_without_a_teacher_is_refused(tmp_path: Path) -> None:
    for module in (store, encodings):
        with pytest.raises(SystemExit) as refusal:
            module.main(["--data", str(tmp_path / "x.h5")])
        assert refusal.value.code == "--data and --teacher go together"


def test_every_round_runs_every_case_and_the_first_is_dropped() -> None:
    calls: list[tuple[str, int]] = []
    cases = {name: (lambda turn, name=name: calls.append((name, turn))) for name in "abc"}
    seconds = interleaved(cases, 3, fewer={"c": 1}, before=lambda: calls.append(("before", -1)))
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3, "c": 1}
    named = [call for call in calls if call[0] != "before"]
    assert named == [
        *(("a", 0), ("b", 0), ("c", 0)),
        *(("b", 1), ("c", 1), ("a", 1)),
        *(("a", 2), ("b", 2)),
        *(("a", 3), ("b", 3)),
    ]
    assert calls[::2] == [("before", -1)] * len(named)


def test_a_ratios_interval_is_of_order_statistics() -> None:
    times = [3.0, 1.0, 2.0, 9.0, 4.0, 8.0, 5.0, 7.0, 6.0]
    found = ratio(times, [2.0] * 9)
    assert found["median"] == statistics.median(times) / 2
    # P(Binomial(9, 1/2) <= 1) = 10 / 512: the interval goes from the second smallest to the second largest.
    assert (found["low"], found["high"]) == (1.0, 4.0)
    assert ratio([1.0, 2.0, 4.0], [1.0, 1.0, 1.0]) == {"median": 2.0, "low": 1.0, "high": 4.0}
    assert interval(found) == "2.5 (1 to 4)"

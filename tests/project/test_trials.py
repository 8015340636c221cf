"""The trials of experiments/: settings load, the given share of labels is wrong, and finished rows are kept."""

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from prepkd.distillation.compared_runs import run_settings
from prepkd.project.params import load_params
from prepkd.report.significance import ALPHA, Difference, holm, paired_difference
from trial_scripts import EXPERIMENTS, script

TRIALS = sorted(path.parent.name for path in EXPERIMENTS.glob("*/variants.txt"))


@pytest.mark.parametrize("trial", TRIALS)
def test_every_run_of_every_variant_is_valid(trial: str) -> None:
    variants = script("seeds").read_variants(EXPERIMENTS / trial)
    assert len(variants) > 1
    for settings in variants.values():
        params = load_params(EXPERIMENTS / trial / "params.yaml", settings)
        for run in params.compare.runs:
            run_settings(params.distill, run)


def test_every_choice_of_the_search_is_valid_and_methods_have_as_many() -> None:
    folder = EXPERIMENTS / "cifar100-tuning"
    distill = load_params(folder / "params.yaml", []).distill
    choices = (folder / "choices.txt").read_text().splitlines()
    methods = [run_settings(distill, run).method for run in choices]
    assert len(set(choices)) == len(choices) and {methods.count(one) for one in methods} == {6}


def test_the_search_shows_settings_without_their_sections() -> None:
    shown = script("page").settings("ka-lsr,kd.tau=4,ka.lsr_weight=1/tau,ce_weight=0.5")
    assert shown == "`tau=4`, `lsr_weight=1/tau`, `ce_weight=0.5`"


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_noise_changes_the_share_of_the_training_labels_and_no_image(share: float, tmp_path: Path) -> None:
    import elsewhere_files

    prepared, out = elsewhere_files.digits(tmp_path / "digits.h5"), tmp_path / "noisy.h5"
    noisy = script("noisy_labels")
    noisy.main(prepared, share, out)
    with h5py.File(prepared) as before, h5py.File(out) as after:
        assert np.array_equal(before["train/images"], after["train/images"])
        assert np.array_equal(before["test/labels"], after["test/labels"])
        labels, given = np.asarray(before["train/labels"]), np.asarray(after["train/labels"])
    wrong = given != labels
    assert wrong.sum() == round(share * len(labels)) and set(given) == set(labels)
    # Each of the nine other classes is drawn as often as the rest, within five standard deviations.
    counts = np.bincount((given - labels)[wrong] % 10, minlength=10)[1:]
    assert abs(counts - counts.mean()).max() < 5 * np.sqrt(wrong.sum() * 1 / 9 * 8 / 9)
    assert np.array_equal(given, noisy.with_noise(labels, share, 10)), "the same labels in every run"


def test_a_row_is_never_trained_again_and_a_new_seed_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = script("seeds")
    trial = tmp_path / "trial"
    trial.mkdir()
    (trial / "variants.txt").write_text("one view:\n\ntwo views: cache.views=2 cache.root=data/two\n")
    text = (EXPERIMENTS / "cifar100-views/params.yaml").read_text().replace("seeds: 3", "seeds: 1")
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, int, tuple[str, ...]]] = []

    def trained(run: str, seed: int, settings: list[str]) -> pd.DataFrame:
        asked.append((run, seed, tuple(settings)))
        figures = {column: 1.0 + seed for column, _ in seeds.COLUMNS.values()}
        return pd.DataFrame(
            [{"run": run, "seed": seed, **figures, "seconds": 60, "processor": "one", "teacher_wrong_percent": 4}]
        )

    monkeypatch.setattr(seeds, "trained", trained)
    seeds.main(trial)
    runs, two = ("kd", "ce"), ("cache.views=2", "cache.root=data/two")
    assert asked == [(run, 0, settings) for settings in ((), two) for run in runs]
    table = (trial / "table.md").read_text()
    assert (
        table.count("| `kd` ") == 2 and "**two views**: the teacher is wrong on 4.00 % of the training views" in table
    )
    asked.clear()
    (tmp_path / "params.yaml").write_text(text.replace("seeds: 1", "seeds: 2"))
    seeds.main(trial)
    assert asked == [(run, 1, settings) for settings in ((), two) for run in runs]
    assert len(pd.read_csv(trial / "long.csv")) == 8
    # Rows from another machine: nothing is trained, and the table is of all rows.
    asked.clear()
    table = (trial / "table.md").read_text()
    (trial / "table.md").write_text("of fewer rows")
    seeds.main(trial)
    assert not asked and (trial / "table.md").read_text() == table
    # A teacher that was trained again: its rows are not added.
    rows = (trial / "long.csv").read_text()
    monkeypatch.setattr(seeds, "trained", lambda *one: trained(*one).assign(**{seeds.WRONG: 5}))
    (tmp_path / "params.yaml").write_text(text.replace("seeds: 1", "seeds: 3"))
    with pytest.raises(
        SystemExit, match=r"^one view: the teacher is wrong on 5 % of the views, that of the rows .* 4 %"
    ):
        seeds.main(trial)
    assert (trial / "long.csv").read_text() == rows


def test_rows_of_two_teachers_are_not_mixed() -> None:
    """A teacher that is trained again, on another machine, may differ in the last bits, and by the end in its answers."""
    seeds = script("seeds")
    rows = pd.DataFrame([{"variant": "tenth", seeds.WRONG: 57.8136}, {"variant": "live", seeds.WRONG: float("nan")}])
    for variant, share in (("tenth", 57.81359), ("other", 1.0), ("live", 1.0)):  # long.csv has six digits
        seeds.refuse_another_teacher(rows, pd.DataFrame([{"variant": variant, seeds.WRONG: share}]))
    seeds.refuse_another_teacher(rows, pd.DataFrame([{"variant": "tenth"}]))
    with pytest.raises(
        SystemExit, match=r"^tenth: the teacher is wrong on 57\.9 % of the views, that of the rows .* 57\.8136 %"
    ):
        seeds.refuse_another_teacher(rows, pd.DataFrame([{"variant": "tenth", seeds.WRONG: 57.9}]))


def test_nothing_in_an_unfinished_table_is_bold() -> None:
    """Looks at a table that grows seed by seed add up: the p of each is right for one look alone."""
    seeds, path, runs = script("seeds"), EXPERIMENTS / "cifar100-views/params.yaml", "compare.runs=[kd, ce]"
    params = load_params(path, ["distill.seeds=3", runs])
    rows = pd.DataFrame(
        [
            {
                "variant": "one view",
                "run": run,
                "seed": seed,
                **dict.fromkeys((one for one, _ in seeds.COLUMNS.values()), top1),
            }
            for run, first in zip(params.compare.runs, (50.0, 60.0), strict=True)
            for seed, top1 in enumerate((first, first + 1, first + 2.1 * first / 50))
        ]
    )
    whole = seeds.tables(rows, {"one view": params})
    assert "**+10." in whole and "Unfinished" not in whole
    params = load_params(path, ["distill.seeds=4", runs])
    part = seeds.tables(rows, {"one view": params})
    assert "| +10." in part and "**" not in part.removeprefix("**one view**")
    assert part.endswith("\nUnfinished: 6 of 8 trainings. Nothing is bold until all are done.\n")


def rows(trial: dict[str, float], runs: tuple[str, ...], seeds: int, slope: float = 0.0) -> pd.DataFrame:
    """Rows of a long.csv: a variant's top-1, plus `slope` times the squared seed."""
    return pd.DataFrame(
        [
            {"variant": variant, "run": run, "seed": seed, "top1_percent": base + seed**2 * slope}
            for variant, base in trial.items()
            for run in runs
            for seed in range(seeds)
        ]
    )


def test_the_table_of_views_pairs_every_number_of_views_with_32_and_with_ce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = pd.concat([rows({"1 view": 50}, ("kd",), 3, 1.0), rows({"online": 53}, ("kd",), 1)])
    views = pd.concat([views, rows({"1 view": 40}, ("ce",), 3)])
    monkeypatch.syspath_prepend(EXPERIMENTS)  # as Python does for a script
    found = script("views")
    # The first trial that has a run gives its 32 views.
    many = [rows({"a": 53}, ("kd",), 5, 0.5), rows({"b": 49}, ("kd", "dkd", "ce"), 5)]
    long = found.together(views, many)
    assert set(long["run"]) == {"kd", "ce"} and set(long["seed"]) == {0, 1, 2}
    header, _, *lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in found.table(long, 30).splitlines()
    ]
    assert header == [
        *("views", "epochs per view", "`kd`, top-1, %", "minus 32 views", "minus ce"),
        *("`ce`, top-1, %", "minus 32 views"),
    ]
    # Differences of top-1 over three seeds: 50, 51, 54 minus 53, 53.5, 55 is -3, -2.5, -1, and minus 40 it is 10, 11, 14.
    assert lines[0][:3] == ["1 view", "30", "51.67 +- 2.08"]
    assert lines[0][3].startswith("-2.17 +- 2.59") and "+11.67 +- 5.17" in lines[0][4]
    assert lines[0][5:] == ["40.00 +- 0.00", "-9.00 (no interval)"]
    assert lines[1][:4] == ["32 views", "1", "53.83 +- 1.04", ""] and lines[1][5:] == ["49.00 +- 0.00", ""]
    assert lines[2] == ["online", "1", "53.00", "+0.00 (no interval)", "", "", ""]
    drawn = found.draw(long, tmp_path / "views.png")
    points = [container.lines[0].get_xydata().tolist() for container in drawn.containers]
    assert points == [[[1, 155 / 3], [32, 161.5 / 3]], [[1, 40], [32, 49]]] and (tmp_path / "views.png").exists()


def test_the_script_of_views_reads_the_files_of_its_trials_and_says_what_is_unfinished(tmp_path: Path) -> None:
    for name, found, slope in (("views", {"1 view": 40, "online": 52}, 0.5), ("many", {"params.yaml": 53}, 0.6)):
        (tmp_path / name).mkdir()
        rows(found, ("kd", "ce"), 3, slope).to_csv(tmp_path / name / "long.csv", index=False)
    command = [sys.executable, EXPERIMENTS / "views.py", tmp_path / "views", tmp_path / "many"]
    trial = (EXPERIMENTS / "cifar100-views/params.yaml").read_text()
    shown = {}
    for seeds in (3, 4):
        text = re.sub("runs: .*", "runs: [kd, ce]", trial.replace("seeds: 3", f"seeds: {seeds}"))
        (tmp_path / "views/params.yaml").write_text(text)
        (tmp_path / "views/variants.txt").write_text("1 view:\nonline: distill.source=online\n")
        shown[seeds] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert shown[seeds].count("| 1 view ") == shown[seeds].count("| 32 views ") == 1
    assert "**" in shown[3] and "Unfinished" not in shown[3] and (tmp_path / "views/views.png").exists()
    assert "**" not in shown[4] and shown[4].endswith(
        "\nUnfinished: 12 of 16 trainings. Nothing is bold until all are done.\n"
    )


def test_a_variant_has_seeds_and_runs_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, trial = script("seeds"), tmp_path / "trial"
    trial.mkdir()
    (trial / "variants.txt").write_text("1 view:\nonline: distill.source=online distill.seeds=1 compare.runs=[kd]\n")
    shutil.copy(EXPERIMENTS / "cifar100-views/params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, int, bool]] = []

    def trained(run: str, seed: int, settings: list[str]) -> pd.DataFrame:
        asked.append((run, seed, bool(settings)))
        figures = {column: 1.0 + seed for column, _ in seeds.COLUMNS.values()}
        return pd.DataFrame([{"run": run, "seed": seed, **figures}])

    monkeypatch.setattr(seeds, "trained", trained)
    seeds.main(trial)
    own = [("kd", False), ("ce", False)]
    assert [one for one in asked if one[2]] == [("kd", 0, True)]
    assert asked[:3] == [(run, 0, more) for run, more in (*own, ("kd", True))] and len(asked) == 7
    assert "Unfinished" not in (trial / "table.md").read_text()


def test_a_method_is_paired_with_ka_and_dtd_beside_the_same_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    found = script("pairs")
    runs = load_params(EXPERIMENTS / "cifar100-methods/params.yaml", []).compare.runs
    alone = [run for run in runs if not set(found.parts(run)) & {"ka-ps", "dtd-flsw"}]
    paired = found.pairs_of(alone, {run: pd.Series([50.0]) for run in runs})
    assert len(paired) == 10 and set(paired.values()) == set(runs) - set(alone)
    assert set(alone) - set(paired) == {"ce", "kd,kd.tau=4", "at", "sp", "rkd", "crd"}
    # Nothing else than KA and DTD changes: weights, temperatures and settings stay.
    distill = load_params(EXPERIMENTS / "cifar100-methods/params.yaml", []).distill
    for run, other in paired.items():
        one, both = run_settings(distill, run), run_settings(distill, other)
        assert one.loss_weights == both.loss_weights, (run, other)
        assert one.terms.temperature.base == both.terms.temperature.base, (run, other)
        rest = [
            {key: value for key, value in run.used(but=set()).items() if key not in ("method", "kd", "ka", "dtd")}
            for run in (one, both)
        ]
        assert rest[0] == rest[1], (run, other)


def test_a_method_is_compared_with_kd_at_its_own_temperature_if_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    found = script("pairs")
    runs = {"kd": 41, "kd,kd.tau=4": 42, "dkd,kd.tau=4": 44, "wttm,kd.tau=5": 44}
    long = pd.concat([rows({"params.yaml": top1}, (run,), 3, 1.0 + top1 / 1000) for run, top1 in runs.items()])
    long.to_csv(tmp_path / "long.csv")
    found.main(tmp_path / "long.csv")
    shown = {
        line.split("`")[1]: line.split("|")[3]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| `")
    }
    assert shown["kd"].isspace()
    starts = {run: shown[run].split()[0].strip("*") for run in runs if run != "kd"}
    assert starts == {"kd,kd.tau=4": "+1.00", "dkd,kd.tau=4": "+2.00", "wttm,kd.tau=5": "+3.01"}


def test_differences_are_over_the_seeds_that_both_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    one, other = pd.Series([9.0, 3.0, 4.0, 6.0]), pd.Series([1.0, 3.0, 5.0, 9.0], index=[1, 2, 3, 4])
    (difference,) = script("pairs").differences({"a": (one, other)}).values()
    assert difference.n == 3 and difference.mean == pytest.approx(4 / 3)


def test_the_mean_effect_is_tested_over_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    found = script("pairs").mean_effect([pd.Series([1.0, 2.0, 3.0]), pd.Series([3.0, 4.0, 8.0])])
    # The seeds' means are 2, 3, 5.5: mean 3.5, standard error 1.041, t = 3.363 with 2 degrees of freedom.
    assert found == "With KA and DTD minus alone, mean over 2 methods: +3.50 +- 4.48 (p 0.078), one test."


def test_the_errors_of_a_teacher_are_counted_by_what_it_was_trained_on(tmp_path: Path) -> None:
    import elsewhere_files
    from prepkd.data.prepared.file import load_split

    errors, made = script("errors"), tmp_path / "noise20"
    prepared = elsewhere_files.digits(tmp_path / "digits.h5")
    train = load_split(prepared, "train")
    images, labels = np.asarray(train.images), np.asarray(train.labels)
    made.mkdir()
    script("noisy_labels").main(prepared, 0.2, made / "images.h5")
    kept, changed = errors.groups(made, images, labels)
    assert changed.members.sum() == round(0.2 * len(labels)) and (kept.members != changed.members).all()
    # A teacher that learned the noise answers what it was given: here with probability 9 / (9 + 9).
    logits = np.where(np.arange(10) == changed.given[:, None], np.log(9, dtype=np.float32), 0)
    assert errors.row(logits, labels, kept) == ["label kept", "80", "0.0", "", "50"]
    assert errors.row(logits, labels, changed) == ["label changed", "20", "100.0", "100.0", "50"]
    # One of a part of the images has these as its own; a given one has no groups.
    part = tmp_path / "tenth"
    (part / "data").mkdir(parents=True)
    with h5py.File(part / "data/cifar100.h5", "w") as out:
        out["train/images"] = images[:50]
    own, others = errors.groups(part, images, labels)
    assert own.members[:50].all() and (own.members != others.members).all() and own.members.sum() < len(labels)
    (whole,) = errors.groups(tmp_path / "resnet8", images, labels)
    assert whole.members.all() and whole.given is None


def test_a_countable_gain_is_significant_as_the_best_of_its_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    found, tests, spread = script("pairs"), 7, [0.3, -0.2, 0.5, 0.1, -0.7]  # of mean 0
    gain = found.countable(paired_difference(spread, [0.0] * 5), tests)
    best = paired_difference([gain + one for one in spread], [0.0] * 5)
    assert math.isclose(holm([best.p, *[0.9] * (tests - 1)])[0], ALPHA)
    assert found.countable(paired_difference([1.0] * 5, [0.0] * 5), tests) is None
    short, long = (Difference(0.0, 5, half_width, 1.0) for half_width in (0.1, 9.0))
    assert "for 1 of 2 methods none below 1.80 would." in found.what_it_can_show([short, long], tests, 1.8)

"""Runs of the comparison: weights of the losses, variants of the settings, their teachers and seeds."""

from pathlib import Path

import pytest
from prepkd.errors import InputError
from prepkd.project.params import load_params


@pytest.mark.parametrize(
    ("method", "weights"),
    [
        ("ce", (1.0, 0.0)),
        ("kd", (0.1, 0.9)),
        ("dtd-flsw", (0.1, 0.9)),
        ("dtd-cwsm", (0.1, 0.9)),
        ("ka-ps", (0.0, 1.0)),
        ("ka-lsr", (0.0, 1.0)),
        ("ka-ps+dtd-flsw", (0.0, 1.0)),
        ("ka-ps+dtd-cwsm", (0.0, 1.0)),
        ("ka-lsr+dtd-flsw", (0.0, 1.0)),
        ("ka-lsr+dtd-cwsm", (0.0, 1.0)),
    ],
)
def test_auto_weights(file: Path, method: str, weights: tuple[float, float]) -> None:
    assert load_params(file, [f"distill.method={method}"]).distill.loss_weights == weights


@pytest.mark.parametrize(
    ("overrides", "weights"),
    [
        (["ce_weight=0"], (0.0, 1.0)),
        (["ce_weight=0.25"], (0.25, 0.75)),
        (["kd_weight=3"], (0.1, 3.0)),
        (["ce_weight=2", "kd_weight=0.5"], (2.0, 0.5)),
        (["method=ka-ps", "ce_weight=0.5"], (0.5, 0.5)),
        (["method=ce", "ce_weight=0.5"], (0.5, 0.0)),
        (["method=ce", "kd_weight=0"], (1.0, 0.0)),
    ],
)
def test_given_weights(file: Path, overrides: list[str], weights: tuple[float, float]) -> None:
    assert load_params(file, [f"distill.{change}" for change in overrides]).distill.loss_weights == weights


def test_a_variant_changes_what_it_names_and_nothing_else(file: Path) -> None:
    params = load_params(file, ["distill.dtd.flsw.beta=3", "distill.seeds=[4, 2]"])
    assert params.variant("kd") == params.distill
    changed = params.variant("ka-ps+dtd-flsw,ce_weight=0.5,dtd.flsw.gamma=2,lr=1e-5")
    assert changed.method == "ka-ps+dtd-flsw" and changed.loss_weights == (0.5, 0.5) and changed.lr == 1e-5
    assert changed.dtd.flsw.beta == 3.0 and changed.dtd.flsw.gamma == 2.0
    assert changed.seed_list == [4, 2] and changed.kd == params.distill.kd
    assert params.distill.dtd.flsw.gamma == 1.0


def test_a_variants_teacher_is_its_own(file: Path) -> None:
    """A run that names its teachers keeps them in a grid of ensembles and if distill lists several teachers."""
    params = load_params(file, ["distill.teachers=[large, small]"])
    assert params.variant("kd").teacher_names == ["large", "small"]
    assert params.variant("kd", "large+small").teacher_names == ["large", "small"]
    for teacher in (None, "large", "large+small"):
        assert params.variant("kd,teacher=small", teacher).teacher_names == ["small"]
        assert params.variant("kd,teachers=[small,large]", teacher).teacher_names == ["small", "large"]
    for run, teacher in (("kd,teacher=huge", None), ("kd,teachers=[large,huge]", "large"), ("kd", "huge")):
        with pytest.raises(
            InputError, match=r"^run '.*': teacher is 'huge'; expected a key of teachers: large, small$"
        ):
            params.variant(run, teacher)


def test_a_variants_weights_are_its_own(file: Path) -> None:
    """Loss weights set for `distill` do not change the comparison's `ce` and `kd`."""
    params = load_params(file, ["distill.ce_weight=0", "distill.kd_weight=3"])
    assert [params.variant(run).loss_weights for run in params.compare.runs] == [(1.0, 0.0), (0.1, 0.9), (0.0, 1.0)]


def test_kd_without_cross_entropy_is_a_variant(file: Path) -> None:
    assert load_params(file).variant("kd,ce_weight=0").loss_weights == (0.0, 1.0)


@pytest.mark.parametrize(("seeds", "listed"), [("1", [0]), ("3", [0, 1, 2]), ("[7]", [7]), ("[3, 1]", [3, 1])])
def test_seeds_are_a_count_or_a_list(file: Path, seeds: str, listed: list[int]) -> None:
    assert load_params(file, [f"distill.seeds={seeds}"]).distill.seed_list == listed

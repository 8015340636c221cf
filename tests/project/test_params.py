"""params.yaml: the project's own files are valid, overrides are typed, and each error is one line with its fix."""

import re
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
from commands import ROOT
from dvc.utils.hydra import apply_overrides
from prepkd.distillation.generation_settings import Generation
from prepkd.distillation.student_settings import Distill
from prepkd.methods.terms import TERMS
from prepkd.project.params import Params, load_params
from prepkd.training.settings import Training
from prepkd.training.teacher_settings import Teacher
from prepkd.views import AUGMENTATIONS
from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from small_params import SMALL, error

TRAINING = sorted(Training.model_fields)


# Valid settings


@pytest.mark.parametrize(
    "path",
    [ROOT / "params.yaml", *sorted(ROOT.glob("recipes/*.yaml")), *sorted(ROOT.glob("experiments/*/params.yaml"))],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_the_projects_own_settings_hold(path: Path) -> None:
    params = load_params(path)
    for run in params.compare.runs:
        named = re.search(r",teacher=(\w+)", run)
        assert params.variant(run).teacher == (named[1] if named else params.distill.teacher)


def test_dvc_can_set_every_key_of_the_first_teacher_and_of_every_other_section(tmp_path: Path) -> None:
    """DVC refuses `-S KEY=VALUE` for a key that the file does not have."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    unwritten: list[str] = []

    def look(section: type[BaseModel], written: dict[str, Any], where: str) -> None:
        for key, field in section.model_fields.items():
            if key not in written:
                unwritten.append(f"{where}{key}")
                continue
            inner = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
            for kind in inner:
                if issubclass(kind, BaseModel) and isinstance(written[key], dict):
                    if kind is Generation:  # params.yaml has none; a new one is a new key for DVC, too
                        continue
                    named = kind is Teacher
                    look(kind, written[key]["large"] if named else written[key], f"{where}{key}.{'large.' * named}")

    look(Params, params, "")
    assert unwritten == [], "write them, with their defaults, into params.yaml"
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert set(Distill.model_fields) <= set(YAML(typ="safe").load(recipe)["distill"]), recipe
    file = shutil.copy(ROOT / "params.yaml", tmp_path)
    changes = ["distill.checkpoint_every=7", "teachers.large.weights=w.pth", "+teachers.small.seed=3"]
    apply_overrides(file, changes)
    changed = load_params(Path(file))
    assert changed.distill.checkpoint_every == 7 and changed.teachers["small"].seed == 3
    assert changed.teachers["large"].weights == Path("w.pth")


def test_the_default_settings_compare_every_method() -> None:
    assert {
        "ce",
        "kd",
        "kd,ce_weight=0",
        "ka-ps",
        "ka-lsr",
        "dtd-flsw",
        "dtd-cwsm",
        "ka-ps+dtd-flsw",
        "ka-ps+dtd-cwsm",
    } <= set(load_params(ROOT / "params.yaml").compare.runs)


def test_settings_are_frozen(file: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_params(file).distill.epochs = 3  # type: ignore[misc]


def test_paths_are_paths(file: Path) -> None:
    params = load_params(file, ["prepare.raw=some/where"])
    assert params.prepare.raw == Path("some/where") and params.teachers["small"].weights == Path("small.pth")


# Overrides


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("distill.lr=1e-5", "lr", 1e-5),  # a string in YAML 1.1
        ("distill.lr=1", "lr", 1.0),
        ("distill.lr=5.0e-4", "lr", 5e-4),
        ("distill.epochs=240", "epochs", 240),
        ("distill.nesterov=true", "nesterov", True),
        ("distill.seeds=5", "seeds", 5),
        ("distill.seeds=[3, 1]", "seeds", [3, 1]),
        ("distill.method=ka-ps+dtd-flsw", "method", "ka-ps+dtd-flsw"),
        ("distill.ce_weight=0", "ce_weight", 0.0),
        ("distill.ce_weight=auto", "ce_weight", "auto"),
        ("distill.teacher=small", "teacher", "small"),
        ("distill.student=some.module:factory", "student", "some.module:factory"),
    ],
)
def test_an_override_is_typed(file: Path, override: str, key: str, value: object) -> None:
    found = getattr(load_params(file, [override]).distill, key)
    assert found == value and type(found) is type(value)


def test_overrides_reach_nested_keys_and_the_last_one_wins(file: Path) -> None:
    params = load_params(
        file,
        [
            "distill.kd.tau=8",
            "distill.dtd.flsw.beta=3",
            "distill.ka.lsr_weight=1/tau",
            "teachers.small.epochs=7",
            "teachers.third.model=resnet8",
            "teachers.third.epochs=2",
            "augment=[flip]",
            "cache.views=4",
            "cache.views=6",
            "distill.milestones=[3, 5]",
            "distill.schedule=multi-step",
        ],
    )
    assert (
        params.distill.kd.tau == 8.0 and params.distill.dtd.flsw.beta == 3.0 and params.distill.ka.lsr_weight == "1/tau"
    )
    assert params.teachers["small"].epochs == 7 and list(params.teachers) == ["large", "small", "third"]
    assert params.augment == ["flip"] and params.cache.views == 6 and params.distill.milestones == [3, 5]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("distill.lr", "--set: 'distill.lr'; expected KEY=VALUE, e.g. distill.kd.tau=8"),
        ("=3", "--set: '=3'; expected KEY=VALUE, e.g. distill.kd.tau=8"),
        ("distill.=3", "--set: 'distill.=3'; expected KEY=VALUE, e.g. distill.kd.tau=8"),
        ("distill..lr=3", "--set: 'distill..lr=3'; expected KEY=VALUE, e.g. distill.kd.tau=8"),
        ("", "--set: ''; expected KEY=VALUE, e.g. distill.kd.tau=8"),
        ("distill.method.x=1", "--set: distill.method.x: method holds 'kd', not settings"),
        ("distill.seeds=[1", "--set: distill.seeds is '[1': not YAML: line 1, column 3: expected ',' or ']'"),
    ],
)
def test_a_malformed_override_is_explained(file: Path, override: str, message: str) -> None:
    assert error(file, override).startswith(message)


# Errors


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "foo=1",
            "unknown key foo; allowed: augment, augment_strong, cache, compare, devices, distill, generations, logger, prepare, "
            "teachers, threads",
        ),
        ("distill.kd.temperature=1", "unknown key distill.kd.temperature; allowed: tau"),
        ("distill.dtd.flsw.alpha=1", "unknown key distill.dtd.flsw.alpha; allowed: beta, gamma"),
        (
            "teachers.large.modle=x",
            "unknown key teachers.large.modle; allowed: " + ", ".join(sorted(["augment", *TRAINING, "model", "seed"])),
        ),
        (
            "cache.view=1",
            "unknown key cache.view; allowed: batch_size, chunk, encoding, features, features_root, precision, root, "
            "sampled, seed, topk, views",
        ),
        ("distill.teachers=[large,giant]", "distill.teachers has 'giant'; expected a key of teachers: large, small"),
        (
            "distill.teachers=[large,large]",
            "distill: teachers names one twice: large, large; each teacher once",
        ),
        (
            "distill.ensemble.weights=[1,2]",
            "distill: ensemble.weights has 2 numbers for 1 teachers; one per teacher",
        ),
        ("cache.encoding=f8", "cache.encoding is 'f8'; expected 'f16', 'u8', 'i16', 'topk' or 'sampled'"),
        ("distill.epochs=abc", "distill.epochs is 'abc'; expected a whole number"),
        ("distill.epochs=2.5", "distill.epochs is 2.5; expected a whole number"),
        ("distill.epochs=true", "distill.epochs is true; expected a whole number"),
        ("distill.epochs='30'", "distill.epochs is '30'; expected a whole number"),
        ("distill.epochs=0", "distill.epochs is 0; expected >= 1"),
        ("distill.lr=fast", "distill.lr is 'fast'; expected a number"),
        ("distill.lr=0", "distill.lr is 0; expected > 0"),
        ("distill.lr={a: 1}", "distill.lr is {'a': 1}; expected a number"),
        ("distill.momentum=1", "distill.momentum is 1; expected < 1"),
        ("distill.nesterov=maybe", "distill.nesterov is 'maybe'; expected true or false"),
        ("distill.nesterov=1", "distill.nesterov is 1; expected true or false"),
        ("distill.student=3", "distill.student is 3; expected text"),
        ("distill.student=", "distill.student is null; expected text"),
        ("distill.kd.tau=0", "distill.kd.tau is 0; expected > 0"),
        ("distill.kd.tau=-1.5", "distill.kd.tau is -1.5; expected > 0"),
        ("distill.kd.tau=.nan", "distill.kd.tau is nan; expected a finite number"),
        ("distill.kd.tau=.inf", "distill.kd.tau is inf; expected a finite number"),
        ("distill.dtd.tau_min=0", "distill.dtd.tau_min is 0; expected > 0"),
        (
            "distill.dtd.tau_min=5",
            "distill.dtd: tau_min, tau_0, tau_max are 5.0, 4.0, 40.0; expected tau_min <= tau_0 <= tau_max",
        ),
        ("distill.dtd=3", "distill.dtd is 3; expected keys with settings"),
        ("distill.kd=", "distill.kd is null; expected keys with settings"),
        ("distill=", "distill is null; expected keys with settings"),
        ("distill.ka.eps=2", "distill.ka.eps is 2; expected <= 1"),
        ("distill.ka.lsr_weight=2", "distill.ka.lsr_weight is 2; expected 1 or '1/tau'"),
        ("distill.view_order=linear", "distill.view_order is 'linear'; expected 'cycle' or 'random'"),
        ("distill.source=live", "distill.source is 'live'; expected 'cached' or 'online'"),
        ("cache.views=0", "cache.views is 0; expected >= 1 or 'all'"),
        ("cache.views=some", "cache.views is 'some'; expected a whole number or 'all'"),
        ("cache.views=2.5", "cache.views is 2.5; expected a whole number or 'all'"),
        ("cache.views=2147483648", "cache.views is 2147483648; expected < 2147483648 or 'all'"),
        ("distill.seeds=0", "distill.seeds is 0; expected >= 1 or a list"),
        ("distill.seeds=x", "distill.seeds is 'x'; expected a whole number or a list"),
        ("distill.seeds=[0, -1]", "distill.seeds.1 is -1; expected >= 0"),
        ("distill.seeds=[]", "distill.seeds is []; expected a whole number or at least 1 entry"),
        ("distill.seeds=[1, 1]", "distill.seeds: [1, 1] names a seed twice; each seed once"),
        ("distill.teacher=giant", "distill.teacher is 'giant'; expected a key of teachers: large, small"),
        ("teachers={}", "teachers is {}; expected at least 1 entry"),
        ("teachers.large=3", "teachers.large is 3; expected keys with settings"),
        ("teachers.new.epochs=3", "teachers.new.model is missing; expected a value"),
        (
            "teachers={large: {model: resnet8, epochs: 1}, a b: {model: resnet8, epochs: 1}}",
            "teachers has the name 'a b'; expected letters, digits, '_' and '-'",
        ),
        (
            "teachers={1: {model: resnet8, epochs: 1}}",
            "teachers has the name 1; expected text",
        ),
        (
            "teachers.large.epochs=0",
            "teachers.large: epochs is 0 and weights is not set; "
            "expected epochs >= 1, a file of weights, or a model that has them",
        ),
        (
            "distill.weights_key=ema",
            "distill: weights_key is 'ema' and weights is not set; a key needs a file of weights",
        ),
        (
            "distill={teacher: large, epochs: 1, student: 'timm:resnet18:pretrained', weights: w.pth}",
            "distill: model timm:resnet18:pretrained brings weights, and weights is 'w.pth'; expected one of them",
        ),
        (
            "prepare.dataset=mnist",
            "prepare.dataset is 'mnist'; expected 'digits', 'cifar10', 'cifar100', 'cinic10', 'tiny-imagenet', 'folder' or 'h5'",
        ),
        ("prepare.val_fraction=1", "prepare.val_fraction is 1; expected < 1"),
        ("prepare.raw=3", "prepare.raw is 3; expected a path"),
        ("threads=0", "threads is 0; expected >= 1"),
        ("augment=flip", "augment is 'flip'; expected a list"),
        ("augment=[blur]", f"augment: has no augmentation 'blur'; allowed: {', '.join(AUGMENTATIONS)}"),
        ("augment=[{crop: {padding: 0}}]", "augment: step crop: padding is 0; expected >= 1"),
        ("augment=[{crop: {pad: 1}}]", "augment: step crop: unknown key pad; allowed: padding"),
        (
            "distill.schedule=multi-step",
            "distill: schedule is multi-step and milestones is empty; list the epochs at which lr drops",
        ),
        ("distill.milestones=[3]", "distill: milestones belong to schedule: multi-step; schedule is cosine"),
        ("distill.optimizer=adam", "distill.optimizer is 'adam'; expected 'sgd' or 'adamw'"),
        ("distill.adamw.betas=[0.9]", "distill.adamw.betas is [0.9]; expected at least 2 entries"),
        ("distill.adamw.betas=[0.9,1]", "distill.adamw.betas.1 is 1; expected < 1"),
        ("distill.adamw.beta=1", "unknown key distill.adamw.beta; allowed: betas, eps"),
        ("distill.accumulate=0", "distill.accumulate is 0; expected >= 1"),
        ("distill.clip_grad_norm=0", "distill.clip_grad_norm is 0; expected > 0"),
        ("distill.ema=1", "distill.ema is 1; expected < 1"),
        ("distill.warmup_epochs=1", "distill: warmup_epochs is 1; expected less than epochs, 1"),
        ("distill.early_stop=3", "distill.early_stop is 3; expected keys with settings"),
        ("distill.early_stop.patience=0", "distill.early_stop.patience is 0; expected >= 1"),
        (
            "teachers.large.augment=[mixup, flip]",
            "teachers.large.augment: has mixup before its last step; expected one step that mixes, at the end",
        ),
        ("teachers.large.augment=flip", "teachers.large.augment is 'flip'; expected a list"),
        ("logger=csv", "logger is 'csv'; expected 'tensorboard', 'wandb' or 'mlflow'"),
        ("distill.milestones=[0]", "distill.milestones.0 is 0; expected >= 1"),
        (
            "distill.method=foo",
            f"distill.method is 'foo': has no term 'foo'; terms joined by '+' out of: {', '.join(TERMS)}, "
            "or package.module:Class",
        ),
        (
            "distill.method=ka-ps+ka-lsr",
            "distill.method is 'ka-ps+ka-lsr': contradicts itself: ka-ps and ka-lsr exclude each other; one of them",
        ),
        (
            "distill.method=ce+kd",
            "distill.method is 'ce+kd': contradicts itself: 'ce' is training without a teacher; "
            "'ce' alone, or set distill.ce_weight",
        ),
        ("distill.ce_weight=-1", "distill.ce_weight is -1; expected 'auto' or >= 0"),
        ("distill.ce_weight=half", "distill.ce_weight is 'half'; expected 'auto' or a number"),
        (
            "distill.ce_weight=1.5",
            "distill: ce_weight is 1.5 and kd_weight auto is 1 - ce_weight; set kd_weight as well",
        ),
        (
            "distill.kd_weight=0",
            "distill: method is kd and kd_weight is 0; a teacher needs kd_weight > 0, or method: ce",
        ),
        (
            "distill.ce_weight=1",
            "distill: method is kd and kd_weight is 0; a teacher needs kd_weight > 0, or method: ce",
        ),
        ("compare.runs=[]", "compare.runs is []; expected at least 1 entry"),
        ("compare.runs=kd", "compare.runs is 'kd'; expected a list"),
        ("compare.students=null", "compare.students is null; expected a list"),
        ("compare.runs=[kd, ce, kd]", "compare.runs: names 'kd' twice; expected each once"),
        (
            "compare.runs=['kd,ce_weight']",
            "compare.runs: run 'kd,ce_weight'; expected METHOD[,KEY=VALUE...], e.g. kd,ce_weight=0",
        ),
        (
            "compare.runs=['kd,kd.tau=0']",
            "compare.runs: run 'kd,kd.tau=0': kd.tau is 0; expected > 0",
        ),
        (
            f"compare.runs=['kd,weights={'w' * 170}']",
            f"compare.runs: run 'kd,weights={'w' * 29}'...: 181 bytes without a slash; expected at most 180, "
            "because they name a file; put what all runs share under distill",
        ),
        (
            "compare.runs=['kd,method=ce']",
            "compare.runs: run 'kd,method=ce': method is the part before the first comma; expected no method= after it",
        ),
        ("compare.runs=['kd,kd.t=0']", "compare.runs: run 'kd,kd.t=0': unknown key kd.t; allowed: tau"),
        (
            "compare.runs=[ka-ps+ka-lsr]",
            "compare.runs: run 'ka-ps+ka-lsr': method is 'ka-ps+ka-lsr': contradicts itself: "
            "ka-ps and ka-lsr exclude each other; one of them",
        ),
    ],
)
def test_an_error_names_the_key_the_value_and_what_is_allowed(file: Path, override: str, message: str) -> None:
    assert error(file, override) == message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["distill.method=ce", "distill.ce_weight=0"],
            "distill: ce_weight and kd_weight are both 0; at least one > 0",
        ),
        (
            ["distill.ce_weight=0", "distill.kd_weight=0"],
            "distill: method is kd and kd_weight is 0; a teacher needs kd_weight > 0, or method: ce",
        ),
        (
            ["distill.method=ce", "distill.kd_weight=0.9"],
            "distill: method is ce and kd_weight is 0.9; without a teacher kd_weight is auto or 0",
        ),
        (
            ["distill.schedule=one-cycle", "distill.warmup_epochs=0.5"],
            "distill: warmup_epochs is 0.5 and schedule is one-cycle, which has a warm-up of its own; expected 0",
        ),
        (
            ["distill.epochs=9", "distill.schedule=multi-step", "distill.milestones=[5, 2]", "distill.warmup_epochs=2"],
            "distill: warmup_epochs is 2; expected less than the first of milestones, 2",
        ),
        (["distill.epochs=0", "cache.views=0", "threads=0"], "threads is 0; expected >= 1 (and 2 more)"),
    ],
)
def test_an_error_of_several_settings(file: Path, overrides: list[str], message: str) -> None:
    assert error(file, *overrides) == message


def test_a_section_that_is_off_can_be_set_by_its_keys(file: Path) -> None:
    file.write_text(SMALL.replace("method: kd", "method: kd, early_stop: null"))
    assert load_params(file).distill.early_stop is None
    found = load_params(file, ["distill.early_stop.patience=3"]).distill.early_stop
    assert found is not None and found.patience == 3


def test_adamw_needs_no_momentum(file: Path) -> None:
    """`momentum` and `nesterov` are settings of sgd and are not checked for other optimisers."""
    changes = ["distill.momentum=0", "distill.nesterov=true", "distill.optimizer=adamw"]
    assert load_params(file, changes).distill.nesterov
    line = "distill: nesterov is true and momentum is 0; Nesterov needs momentum > 0, or nesterov: false"
    assert error(file, *changes[:2]) == line


def test_a_long_value_is_cut(file: Path) -> None:
    assert error(file, f"distill.epochs={'x' * 500}") == f"distill.epochs is '{'x' * 76}...; expected a whole number"


def test_an_unknown_key_among_many_is_answered_with_those_like_it(file: Path) -> None:
    known = f"`prepkd schema` lists the {len(Distill.model_fields)} that are allowed"
    assert error(file, "distill.zzz=0.5") == f"unknown key distill.zzz; {known}"
    assert error(file, "distill.epoch=3") == f"unknown key distill.epoch; did you mean epochs? {known}"


def test_validating_what_was_dumped_gives_the_same(file: Path) -> None:
    params = load_params(file, ["distill.seeds=[4, 2]", "distill.ce_weight=0.5"])
    assert Params.model_validate(params.model_dump()) == params
    assert Params.model_validate_json(params.model_dump_json()) == params

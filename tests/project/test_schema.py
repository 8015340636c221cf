"""The schema that `prepkd schema` prints: accepted and refused settings, and the description of every key."""

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from commands import ROOT
from prepkd.cli import app
from prepkd.methods.cross_entropy import CrossEntropy
from prepkd.methods.grammar import every_method, parse_method
from prepkd.methods.terms import TERMS
from prepkd.models import MODELS
from prepkd.project.params import load_params
from prepkd.project.schema import json_schema
from ruamel.yaml import YAML
from typer.testing import CliRunner

SETTINGS = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]


def read(path: Path) -> Any:
    return YAML(typ="safe").load(path)


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(CliRunner().invoke(app, ["schema"]).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.name)
def test_our_own_settings_are_valid(path: Path, validator: Any) -> None:
    load_params(path)
    validator.validate(read(path))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda p: p["distill"].update(epoch=3), ["distill"]),
        (lambda p: p["distill"].update(lr="fast"), ["distill", "lr"]),
        (lambda p: p["distill"].update(lr=0), ["distill", "lr"]),
        (lambda p: p["cache"].update(views=0), ["cache", "views"]),
        (lambda p: p["cache"].update(encoding="f8"), ["cache", "encoding"]),
        (lambda p: p["prepare"].update(dataset="mnist"), ["prepare", "dataset"]),
        (lambda p: p["augment"].append("blur"), ["augment", 1]),
        (lambda p: p["augment"].append({"crop": {"padding": 0}}), ["augment", 1]),
        (lambda p: p["augment"].append({"crop": {}, "flip": {}}), ["augment", 1]),
        (lambda p: p["teachers"]["large"].update(modle="x"), ["teachers", "large"]),
        (lambda p: p["teachers"]["large"].update(augment=["blur"]), ["teachers", "large", "augment"]),
        (lambda p: p["distill"].update(early_stop={"patience": 0}), ["distill", "early_stop"]),
        (lambda p: p.update(logger="csv"), ["logger"]),
        (lambda p: p["distill"].update(method="nope"), ["distill", "method"]),
        (lambda p: p["distill"].update(method="kd+ka-ps"), ["distill", "method"]),
        (lambda p: p["distill"].update(student="nope"), ["distill", "student"]),
        (lambda p: p["teachers"]["large"].update(model="resnet-8"), ["teachers", "large", "model"]),
        (lambda p: p["compare"].update(students=["nope"]), ["compare", "students", 0]),
        (lambda p: p.pop("compare"), []),
    ],
)
def test_an_error_is_found_at_its_key(change: Any, where: list[Any], validator: Any) -> None:
    params = read(ROOT / "params.yaml")
    change(params)
    assert [list(error.absolute_path) for error in validator.iter_errors(params)] == [where]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_methods_are_those_that_the_parser_takes(count: int, validator: Any) -> None:
    """Schema and parser accept the same sequences of terms; `methods` lists each method on logits once."""
    # Check the alternatives of this key only: validating all settings for every sequence takes minutes.
    named, composed, own = validator.schema["$defs"]["Distill"]["properties"]["method"]["anyOf"]
    assert (named.keys(), composed.keys(), own.keys()) == ({"enum"}, {"type", "pattern"}, {"type", "pattern"})
    known, pattern = set(named["enum"]), re.compile(composed["pattern"])
    users = re.compile(own["pattern"])
    assert users.search("ka-ps+my.terms:Huber+at") and not users.search("ka-ps+my.terms")
    found = set()
    for method in map("+".join, product(TERMS, repeat=count)):
        valid = method in known or any(one.search(method) for one in (pattern, users))
        try:
            found.add(parse_method(method))
        except ValueError:
            assert not valid, method
        else:
            assert valid, method
    listed = {parse_method(method) for method in every_method() if method.count("+") == count - 1}
    on_logits = [
        {one for one in methods if not one.feature_terms and one.labels is CrossEntropy} for methods in (found, listed)
    ]
    assert on_logits[0] == on_logits[1]


@pytest.mark.parametrize("name", [*MODELS, "torchvision:resnet18:DEFAULT", "timm:resnet18", "mine.models:small"])
def test_every_kind_of_model_may_stand_there(name: str, validator: Any) -> None:
    params = read(ROOT / "params.yaml")
    params["teachers"]["large"]["model"] = params["distill"]["student"] = name
    params["compare"]["students"] = [name]
    validator.validate(params)


def test_every_step_of_a_recipe_may_stand_there(validator: Any) -> None:
    params = read(ROOT / "params.yaml")
    params["augment"] = [
        {"resized-crop": {"size": 8, "scale": [0.5, 1]}},
        "flip",
        {"erase": None},
        "randaugment",
        {"mixup": {}},
    ]
    params["teachers"]["large"]["augment"] = ["flip", {"cutmix": {"alpha": 1.0}}]
    validator.validate(params)


def test_keys_have_their_comments_in_params_yaml_as_descriptions() -> None:
    schema = json_schema()
    assert schema["$defs"]["Cache"]["properties"]["views"]["description"].startswith("a count (drawn), or all")
    assert schema["$defs"]["Teacher"]["properties"]["schedule"]["description"].startswith("multi-step (with milestones")
    assert schema["$defs"]["KA"]["properties"]["lsr_weight"]["description"] == "1 (the paper's form) or 1/tau"
    for section in ("Teacher", "Distill"):
        training = schema["$defs"][section]["properties"]
        assert training["ema"]["description"].startswith("0.999: the average of the weights")
        assert training["optimizer"]["description"] == "sgd, adamw"
    assert "instead" in schema["$defs"]["Teacher"]["properties"]["augment"]["description"]
    assert "offline" in schema["properties"]["logger"]["description"]
    assert schema["properties"]["prepare"]["description"].startswith("prepkd prepare")

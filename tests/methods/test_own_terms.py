"""A user's own term, named `package.module:Class` in a method, works like a built-in term."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import ROOT, enter, prepkd
from prepkd.distillation.student_settings import Distill
from prepkd.methods.grammar import parse_method

PAGE = (ROOT / "docs/how-to/own-term.md").read_text()
[HUBER] = re.findall(r"<<'END'\n(.*?)^END$", PAGE, re.M | re.S)
REST = """
from prepkd.methods.term import FeatureTerm

class Unnamed(Divergence):
    def divergence(self, *inputs): return 0, {}

class Taken(Unnamed):
    name = "kd"

class Lacking(Divergence):
    name = "lacking"
    source = "here"

class Other: pass

class Norms(FeatureTerm):
    name = "norms"
    source = "here"
    weight: float = 1.0

    @property
    def features(self): return ("pooled",)

    def teacher_tensors(self, features, other): return {"norms/pooled": features["pooled"].float().norm(dim=1)}

    def loss(self, student, teacher, labels, state):
        return (student["norms/pooled"] - teacher["norms/pooled"]).square()
"""
PARAMS = """
prepare: {dataset: digits, subset: 10}
augment: []
teachers: {large: {model: convnet8, epochs: 1, precision: float32}}
cache: {views: 1}
distill: {teacher: large, student: convnet4, epochs: 2, seeds: 1, precision: float32}
compare: {teachers: [large], students: [convnet4], runs: [kd]}
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    enter(tmp_path, monkeypatch)
    Path("my_terms.py").write_text(HUBER + REST)
    Path("params.yaml").write_text(PARAMS)
    monkeypatch.delitem(__import__("sys").modules, "my_terms", raising=False)
    yield tmp_path


def settings(method: str, **changes: object) -> Distill:
    return Distill.model_validate({"teacher": "large", "student": "convnet4", "epochs": 2, "method": method} | changes)


def test_it_is_in_its_slot_beside_the_others() -> None:
    method = parse_method("my_terms:Huber+ka-ps+at+my_terms:Norms")
    assert method.divergence is not None and method.divergence.name == "huber"
    assert [term.name for term in method.feature_terms] == ["at", "norms"]
    with pytest.raises(ValueError, match="dkd and huber exclude each other; one of them"):
        parse_method("dkd+my_terms:Huber")


@pytest.mark.parametrize(
    ("term", "line"),
    [
        ("my_terms:Hubert", "term 'my_terms:Hubert': .*my_terms.py has no 'Hubert'"),
        ("no_such_module:A", "can't import no_such_module"),
        ("my_terms:Other", "is no term; expected a class that extends"),
        ("my_terms:column", "is no term; expected a class that extends"),
        ("my_terms:Unnamed", "whose `name` is None"),
        ("my_terms:Taken", "whose `name` is 'kd'"),
        ("my_terms:Lacking", "lacks divergence"),
        ("huber", "has no term 'huber'; .* or package.module:Class"),
    ],
)
def test_what_is_no_term_is_refused_in_one_line(term: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        parse_method(f"ka-ps+{term}" if "Norms" not in term else term)
    text = prepkd("distill", "--method", term, code=2)
    assert text.startswith("error: ") and text.count("\n") == 1, text


def test_its_settings_are_checked_and_are_part_of_the_run() -> None:
    with pytest.raises(ValueError, match=r"distill\.own\.huber: .*delta"):
        settings("my_terms:Huber", own={"huber": {"delta": 0}})
    with pytest.raises(ValueError, match=r"distill\.own\.huber: unknown key gamma"):
        settings("my_terms:Huber", own={"huber": {"gamma": 1}})
    default, same = settings("my_terms:Huber"), settings("my_terms:Huber", own={"huber": {"delta": 1.0}, "else": {}})
    assert default.used(but=set()) == same.used(but=set())
    assert settings("my_terms:Huber", own={"huber": {"delta": 2.0}}).used(but=set()) != default.used(but=set())
    assert settings("kd", own={"huber": {"delta": 2.0}}).used(but=set()) == settings("kd").used(but=set())


def test_students_learn_by_it(project: Path) -> None:
    """Cached and online students are equal; a changed setting changes the student; a feature term reads cached features."""
    for command in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"]):
        prepkd(*command)
    weights = {}
    runs = {
        "cached": ["--method", "ka-ps+dtd-flsw+my_terms:Huber"],
        "online": ["--method", "ka-ps+dtd-flsw+my_terms:Huber", "--source", "online"],
        "other": ["--method", "ka-ps+dtd-flsw+my_terms:Huber", "-S", "distill.own.huber.delta=0.01"],
        "features": ["--method", "my_terms:Huber+my_terms:Norms", "--source", "online"],
    }
    for name, options in runs.items():
        prepkd("distill", "--replace", *options)
        weights[name] = Path("models/student/seed0/model.safetensors").read_bytes()
    assert weights["cached"] == weights["online"]
    assert len(set(weights.values())) == 3
    training = json.loads(Path("models/student/seed0/model.json").read_text())["training"]
    assert training["method"] == "my_terms:Huber+my_terms:Norms"
    text = prepkd("distill", "--replace", *runs["features"][:2], code=2)
    assert "add pooled to cache.features and run `prepkd cache-features large`" in text
    cached = ["-S", "cache.features=[pooled]"]
    prepkd("cache-features", "large", *cached)
    prepkd("distill", "--replace", *runs["features"][:2], *cached)
    assert "norms" in Path("results/training/seed0/plots/metrics/train/norms.tsv").read_text()
    shown = prepkd("methods", "--check", "my_terms:Huber+my_terms:Norms", "-S", "distill.own.huber.delta=3")
    assert "huber, weight 0.9" in shown and "norms, weight 1" in shown, shown

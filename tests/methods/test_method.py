"""The grammar of methods: accepted texts, their parsed form, and the messages of refusals."""

import contextlib
from itertools import permutations

import pytest
from prepkd.distillation.student_settings import StudentSettings
from prepkd.methods.cross_entropy import CrossEntropy
from prepkd.methods.dynamic_temperature import CwsmTemperature, FlswTemperature
from prepkd.methods.grammar import Method, every_method, parse_method
from prepkd.methods.kd import KD, FixedTemperature
from prepkd.methods.knowledge_adjustment import LabelSmoothing, ProbabilityShift
from prepkd.methods.term import FeatureTerm
from prepkd.methods.terms import SECTIONS, TERMS

PAPER = ("ce", "kd", "ka-ps", "ka-lsr", "dtd-flsw", "dtd-cwsm")
VALID = {
    "ce": Method(),
    "kd": Method(divergence=KD),
    "ka-ps": Method(ProbabilityShift, divergence=KD),
    "ka-lsr": Method(LabelSmoothing, divergence=KD),
    "dtd-flsw": Method(temperature=FlswTemperature, divergence=KD),
    "dtd-cwsm": Method(temperature=CwsmTemperature, divergence=KD),
    "ka-ps+dtd-flsw": Method(ProbabilityShift, FlswTemperature, KD),
    "ka-ps+dtd-cwsm": Method(ProbabilityShift, CwsmTemperature, KD),
    "ka-lsr+dtd-flsw": Method(LabelSmoothing, FlswTemperature, KD),
    "ka-lsr+dtd-cwsm": Method(LabelSmoothing, CwsmTemperature, KD),
}


@pytest.mark.parametrize("text", VALID)
def test_a_method_parses_in_any_order(text: str) -> None:
    for terms in permutations(text.split("+")):
        assert parse_method("+".join(terms)) == VALID[text]


def test_nothing_else_parses() -> None:
    """Every choice of one to three of the paper's terms: exactly those of VALID are methods."""
    accepted = set()
    for count in (1, 2, 3):
        for terms in permutations(PAPER, count):
            try:
                parse_method("+".join(terms))
            except ValueError:
                continue
            accepted.add(frozenset(terms))
    assert accepted == {frozenset(text.split("+")) for text in VALID}


@pytest.mark.parametrize(
    ("text", "weight"),
    [("ce", 1.0), ("kd", 0.1), ("dtd-flsw", 0.1), ("dtd-cwsm", 0.1)]
    + [(text, 0.0) for text in VALID if text.startswith("ka-")],
)
def test_auto_ce_weight(text: str, weight: float) -> None:
    """KA drops the cross-entropy, since all its targets are right."""
    assert parse_method(text).ce_weight == weight


def test_the_weights_of_auto_sum_to_one_for_the_papers_methods() -> None:
    for text in VALID:
        method = parse_method(text)
        assert method.kd_weight(0.3) == (0.7 if method.needs_teacher else 0.0)


def test_every_method_is_listed_once_and_parses() -> None:
    """Each order of a method's terms parses to the same method; the list holds every method made of logit terms."""
    listed = [parse_method(text) for text in every_method()]
    assert len(set(listed)) == len(listed) == len(every_method())
    found = set()
    for count in (1, 2, 3):
        for terms in permutations(TERMS, count):
            with contextlib.suppress(ValueError):
                found.add(parse_method("+".join(terms)))
    short = {parse_method(text) for text in every_method() if text.count("+") < 3}
    assert set(filter(on_logits, found)) == set(filter(on_logits, short))


def on_logits(method: Method) -> bool:
    """Return whether the method consists of terms that `every_method` combines."""
    return not method.feature_terms and method.labels is CrossEntropy


def test_a_term_owns_its_name_source_and_settings() -> None:
    for name, term in TERMS.items():
        assert term.name == name and term.source
        assert term.section is None or SECTIONS[term.section] is term.section_class()
        assert term.section is not None or set(term.model_fields) <= set(StudentSettings.model_fields)
    assert set(SECTIONS) == {term.section for term in (*TERMS.values(), FixedTemperature) if term.section}
    assert all(term.section for term in TERMS.values() if issubclass(term, FeatureTerm))


KNOWN = f"terms joined by '+' out of: {', '.join(TERMS)}, or package.module:Class"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", f"has no term 'foo'; {KNOWN}"),
        ("", f"has no term ''; {KNOWN}"),
        ("kd+", f"has no term ''; {KNOWN}"),
        ("KD", f"has no term 'KD'; {KNOWN}"),
        ("ka-ps + dtd-flsw", f"has no term 'ka-ps '; {KNOWN}"),
        ("kd,ka-ps", f"has no term 'kd,ka-ps'; {KNOWN}"),
        ("ka-ps+ka-ps", "names a term twice; each term at most once"),
        ("ka-ps+ka-lsr", "contradicts itself: ka-ps and ka-lsr exclude each other; one of them"),
        ("dtd-cwsm+dtd-flsw", "contradicts itself: dtd-cwsm and dtd-flsw exclude each other; one of them"),
        ("ka-ps+dtd-flsw+ka-lsr", "contradicts itself: ka-ps and ka-lsr exclude each other; one of them"),
        ("kd+dtd-flsw", "contradicts itself: kd is what dtd-flsw changes; leave out 'kd'"),
        (
            "ce+kd",
            "contradicts itself: 'ce' is training without a teacher; 'ce' alone, or set distill.ce_weight",
        ),
    ],
)
def test_a_bad_method_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_method(text)
    assert str(caught.value) == message

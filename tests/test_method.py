"""The grammar of methods: what parses, to what, and what is refused in which words."""

from itertools import permutations

import pytest
from prepkd.methods.grammar import TERMS, Method, parse_method

VALID = {
    "ce": Method(teacher=False),
    "kd": Method(teacher=True),
    "ka-ps": Method(teacher=True, adjustment="ps"),
    "ka-lsr": Method(teacher=True, adjustment="lsr"),
    "dtd-flsw": Method(teacher=True, temperature="flsw"),
    "dtd-cwsm": Method(teacher=True, temperature="cwsm"),
    "ka-ps+dtd-flsw": Method(teacher=True, adjustment="ps", temperature="flsw"),
    "ka-ps+dtd-cwsm": Method(teacher=True, adjustment="ps", temperature="cwsm"),
    "ka-lsr+dtd-flsw": Method(teacher=True, adjustment="lsr", temperature="flsw"),
    "ka-lsr+dtd-cwsm": Method(teacher=True, adjustment="lsr", temperature="cwsm"),
}


@pytest.mark.parametrize("text", VALID)
def test_a_method_parses_in_any_order(text: str) -> None:
    for terms in permutations(text.split("+")):
        assert parse_method("+".join(terms)) == VALID[text]


def test_nothing_else_parses() -> None:
    """Every choice of one to three terms: exactly those of VALID are methods."""
    accepted = set()
    for count in (1, 2, 3):
        for terms in permutations(TERMS, count):
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


KNOWN = "terms joined by '+' out of: ce, kd, ka-ps, ka-lsr, dtd-flsw, dtd-cwsm"


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
        ("kd+dtd-flsw", "contradicts itself: ka-* and dtd-* change kd's target; leave out 'kd'"),
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

"""docs/reference/methods.md states the source of every term's default weights, and its numbers equal the code's."""

import re
from typing import Any

import pytest
from commands import ROOT
from prepkd.methods.grammar import parse_method
from prepkd.methods.term import FeatureTerm
from prepkd.methods.terms import TERMS
from prepkd.methods.user_terms import is_user_term

PAGE = (ROOT / "docs/reference/methods.md").read_text().split("<!-- weights -->\n")[1].split("\n\n")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines()[2:]]
STATED = {
    name: (dict(re.findall(r"`([\w.]+)` ([\d.]+)", values)), source)
    for names, values, source in ROWS
    for name in re.findall(r"`([\w-]+)`", names)
}
# Settings that scale a term's loss, or a part of it.
WEIGHTS = ("weight", "alpha", "beta", "gamma", "distance", "angle", "same_view", "cross_view", "multiplier")
# Settings with such names that are not weights: a kernel's width, the strength of a temperature's change.
NO_WEIGHTS = {"cc.gamma", "dtd.flsw.beta", "dtd.flsw.gamma", "dtd.cwsm.beta"}


def test_every_term_is_there() -> None:
    assert STATED.keys() == {name for name, term in TERMS.items() if not is_user_term(term)}


@pytest.mark.parametrize("name", TERMS)
def test_the_stated_weights_are_the_codes(name: str) -> None:
    stated, source = STATED[name]
    assert source
    method, term = parse_method(name), TERMS[name]()
    found: dict[str, Any] = {"ce_weight": method.ce_weight, "kd_weight": method.kd_weight(method.ce_weight)}
    found |= {f"{term.section}.{key}": value for key, value in term.model_dump().items()}
    for key, value in stated.items():
        assert found[key] == float(value), key
    own = {key for key in found if key.rpartition(".")[2] in WEIGHTS and "." in key} - NO_WEIGHTS
    needed = own | {"ce_weight"} | (set() if not method.divergence or isinstance(term, FeatureTerm) else {"kd_weight"})
    assert needed <= stated.keys(), f"the table leaves out {needed - stated.keys()}"

"""Recipes of steps with boxes and operations: one-line errors, descriptions as JSON."""

import json
from typing import Any

import pytest
from prepkd.views import ViewPlan, describe_recipe, parse_recipe

SCALE = "expected [low, high] with 0 <= low <= high <= 1"
RATIO = "expected [low, high] with 0.001 <= low <= high <= 1000"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"resized-crop": {"scale": [1, 0.08]}}, f"step resized-crop: scale is [1, 0.08]; {SCALE}"),
        ({"resized-crop": {"scale": ["0.1", 1]}}, f"step resized-crop: scale is ['0.1', 1]; {SCALE}"),
        ({"resized-crop": {"scale": 0.5}}, f"step resized-crop: scale is 0.5; {SCALE}"),
        ({"resized-crop": {"ratio": [0, 1]}}, f"step resized-crop: ratio is [0, 1]; {RATIO}"),
        ({"resized-crop": {"ratio": [1]}}, f"step resized-crop: ratio is [1]; {RATIO}"),
        ({"resized-crop": {"size": 0}}, "step resized-crop: size is 0; expected >= 1"),
        ({"resized-crop": {"size": "a"}}, "step resized-crop: size is 'a'; expected a whole number"),
        ({"resized-crop": {"padding": 4}}, "step resized-crop: unknown key padding; allowed: size, scale, ratio"),
        ({"erase": {"scale": [True, 1]}}, f"step erase: scale is [True, 1]; {SCALE}"),
        ({"erase": {"scale": [float("nan"), 1]}}, f"step erase: scale is [nan, 1]; {SCALE}"),
        ({"erase": {"probability": 2}}, "step erase: probability is 2; expected <= 1"),
        ({"erase": {"value": 256}}, "step erase: value is 256; expected <= 255"),
        ({"erase": {"p": 1}}, "step erase: unknown key p; allowed: probability, scale, ratio, value"),
        ({"randaugment": {"ops": 0}}, "step randaugment: ops is 0; expected >= 1"),
        (
            {"randaugment": {"magnitude": 31}},
            "step randaugment is {'magnitude': 31}; expected a magnitude below bins, 31",
        ),
        ({"trivial-augment": {"bins": 3}}, "step trivial-augment: unknown key bins; allowed: none"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_explained(step: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_recipe([step])
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["resized-crop", "erase", "randaugment", "trivial-augment"])
def test_a_description_survives_json(name: str) -> None:
    """A store's attributes are compared with the plan's description, so a tuple must not come back as a list."""
    plan = ViewPlan([name], 4, 0, 7)
    written = json.loads(json.dumps(plan.describe()))
    assert written == plan.describe()
    assert describe_recipe(ViewPlan.from_description(written).recipe) == describe_recipe(plan.recipe)
    assert ViewPlan(plan.recipe, 4, 0, 7).fingerprint == plan.fingerprint


def test_too_many_views_to_show_all_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"which makes 1152921504606846976 views; expected fewer .*: give a count"):
        ViewPlan(["resized-crop"], "all", 0, 5)

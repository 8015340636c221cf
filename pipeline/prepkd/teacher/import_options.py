"""Read the options of `prepkd import`, and name the command that uses the store it writes."""

import json
import re
import shlex
from collections.abc import Sequence

from prepkd.errors import InputError
from prepkd.store.encodings import ENCODINGS
from prepkd.views import Recipe, ViewPlan, parse_recipe


def check_options(name: str, encoding: str | None, seed: int) -> None:
    """Refuse an impossible name, encoding or seed; raises InputError."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"NAME is {name!r}; expected letters, digits, '_' and '-'")
    if encoding is not None and encoding not in ENCODINGS:
        raise InputError(f"--encoding is {encoding!r}; expected one of {', '.join(ENCODINGS)}")
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed is {seed}; expected 0 to 2^63 - 1")


def parse_json_recipe(text: str) -> Recipe:
    """Parse a recipe written as JSON; raises InputError."""
    try:
        steps = json.loads(text)
        if not isinstance(steps, list):
            raise ValueError("is not a list")
        return parse_recipe(steps)
    except ValueError as error:
        raise InputError(
            f'--recipe is {text!r}: {error}; expected JSON as \'[{{"crop": {{"padding": 4}}}}, "flip"]\''
        ) from None


def parse_view_count(text: str | None) -> int | str | None:
    """Parse a number of views, "all" or None; raises InputError."""
    if text is None or text == "all":
        return text
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise InputError(f"--views is {text!r}; expected a count, or 'all'")
    return int(text)


def usage(plan: ViewPlan, name: str, options: Sequence[str]) -> str:
    """The command that trains students from the store of `plan`; `options` are those that the project's settings need.

    >>> usage(ViewPlan([], 1, 0, samples=9), "mine", ["-S", "teachers.mine={model: imported}"])
    "prepkd distill --teacher mine -S 'augment=[]' -S cache.views=1 -S cache.seed=0 -S 'teachers.mine={model: imported}'"
    """
    views = plan.describe()
    settings = [
        f"augment={json.dumps(views['recipe'])}",
        f"cache.views={views['views']}",
        f"cache.seed={views['seed']}",
    ]
    given = [word for one in settings for word in ("-S", one)]
    return shlex.join(["prepkd", "distill", "--teacher", name, *given, *options])

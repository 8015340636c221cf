"""Whether a model was trained with the settings that are asked for: those compared are the ones that training reads."""

from collections.abc import Set
from typing import Any

from prepkd.errors import refuse_differences
from prepkd.settings.section import Section
from prepkd.settings.validation import validated


def check_trained_by(made_from: Any, wanted: Section, where: object, remedy: str, *, but: Set[str]) -> None:
    """Refuse a model trained with other settings than `wanted`, as far as training reads them, `but` some keys.

    Settings that did not exist when the model was trained count as their defaults. Raises InputError.
    """
    had = validated(type(wanted), made_from, f"{where}: training")
    # What decides the settings used (method, optimiser, ...) is used by both: only they need comparing, and come first.
    read, expected = had.used(but=but), wanted.used(but=but)
    found = had.model_dump(mode="json") | read
    keys = sorted(expected, key=lambda key: key not in read)
    refuse_differences({f"training.{key}": (found[key], expected[key]) for key in keys}, where, remedy)

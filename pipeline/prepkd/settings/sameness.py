"""Check that a model was trained with the current settings; only settings that training reads are compared."""

from collections.abc import Set
from typing import Any

from prepkd.errors import refuse_differences
from prepkd.settings.section import Section
from prepkd.settings.validation import validated


def check_trained_by(made_from: Any, wanted: Section, where: object, remedy: str, *, but: Set[str]) -> None:
    """Refuse a model whose training read other settings than `wanted`, without the keys `but`.

    Settings that did not exist when the model was trained count as their defaults. Raises InputError.
    """
    had = validated(type(wanted), made_from, f"{where}: training")
    # Settings that decide which others are read (method, optimiser, ...) are read by both, and are compared first.
    read, expected = had.used(but=but), wanted.used(but=but)
    found = had.model_dump(mode="json") | read
    keys = sorted(expected, key=lambda key: key not in read)
    refuse_differences({f"training.{key}": (found[key], expected[key]) for key in keys}, where, remedy)

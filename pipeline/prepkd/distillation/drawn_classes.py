"""Check that a method can be taught from a store that keeps only a draw of the classes."""

from prepkd.distillation.student_settings import StudentSettings
from prepkd.errors import InputError
from prepkd.store.encodings import ENCODINGS
from prepkd.teacher.settings import Cache


def encoding_conflict(settings: StudentSettings, cache: Cache) -> str | None:
    """Return why the method cannot be taught by answers in the encoding `cache.encoding`; None if it can."""
    if not (settings.parsed_method.divergence and ENCODINGS[cache.encoding].draws):
        return None
    which = f"cache.encoding is {cache.encoding}, which keeps a draw of the classes"
    if len(settings.teacher_names) > 1:
        return f"{which}, and {len(settings.teacher_names)} teachers are combined class by class: name one teacher"
    for term in settings.parsed_method.terms:
        if term.every_class:
            return (
                f"{which}, and method {settings.method} has {term.name}: {term.every_class}; expected kd, ka-* or dtd-cwsm, "
                "or another encoding"
            )
    return None


def check_encoding(settings: StudentSettings, cache: Cache) -> None:
    """Raise InputError if the method cannot be taught by answers in the encoding `cache.encoding`."""
    if why := encoding_conflict(settings, cache):
        raise InputError(why)


def draw_note(settings: StudentSettings, cache: Cache) -> str | None:
    """Return a note if the method's temperature differs from that of the draw, which biases the expected gradient."""
    if not (settings.parsed_method.divergence and ENCODINGS[cache.encoding].draws):
        return None
    drawn = getattr(cache, cache.encoding).tau
    temperature = settings.terms.temperature
    if temperature.base == drawn and temperature.name == "fixed":
        return None
    own = f"kd.tau {temperature.base:g}" if temperature.name == "fixed" else f"{temperature.name}'s temperatures"
    return (
        f"classes were drawn at cache.{cache.encoding}.tau {drawn:g}; at {own} their weights are scaled to a sum of one, which "
        "makes the expected gradient differ from the full answer's by O(1/n)"
    )

"""The methods that a store of drawn classes can teach: a method against the encoding of its teacher's answers."""

from prepkd.distillation.student_settings import StudentSettings
from prepkd.errors import InputError
from prepkd.store.encodings import ENCODINGS
from prepkd.teacher.settings import Cache


def unserved(settings: StudentSettings, cache: Cache) -> str | None:
    """Why the method cannot be taught by answers in the encoding `cache.encoding`; None if it can."""
    if not (settings.parsed.divergence and ENCODINGS[cache.encoding].draws):
        return None
    which = f"cache.encoding is {cache.encoding}, which keeps a draw of the classes"
    if len(settings.teacher_names) > 1:
        return f"{which}, and {len(settings.teacher_names)} teachers are combined class by class: name one teacher"
    for term in settings.parsed.terms:
        if term.every_class:
            return (
                f"{which}, and method {settings.method} has {term.name}: {term.every_class}; expected kd, ka-* or dtd-cwsm, "
                "or another encoding"
            )
    return None


def check_served(settings: StudentSettings, cache: Cache) -> None:
    """Refuse a method that answers in the encoding `cache.encoding` cannot teach; raises InputError."""
    if why := unserved(settings, cache):
        raise InputError(why)


def draw_note(settings: StudentSettings, cache: Cache) -> str | None:
    """A line if the method's temperature is another than that of the draw, so that its expected gradient is biased."""
    if not (settings.parsed.divergence and ENCODINGS[cache.encoding].draws):
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

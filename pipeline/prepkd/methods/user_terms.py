"""Terms of a user's own, named `package.module:Class` in a method."""

from prepkd.errors import InputError
from prepkd.methods.kd import FixedTemperature
from prepkd.methods.term import Term
from prepkd.methods.terms import TERMS
from prepkd.models.factory import load_factory


def find_term(name: str) -> type[Term]:
    """A term by its name in `TERMS`, or a user's own class by `package.module:Class`; raises ValueError."""
    if ":" not in name:
        if name not in TERMS:
            raise ValueError(
                f"has no term {name!r}; terms joined by '+' out of: {', '.join(TERMS)}, or package.module:Class"
            )
        return TERMS[name]
    try:
        found = load_factory(name, "term")
    except InputError as error:
        raise ValueError(f"names one of your own; {error}") from None
    if not isinstance(found, type) or not issubclass(found, Term):
        raise ValueError(f"names {name}, which is no term; expected a class that extends one of prepkd.methods.term")
    own = getattr(found, "name", None)
    if not isinstance(own, str) or not own.isidentifier() or own in TERMS:
        raise ValueError(
            f"names {name}, whose `name` is {own!r}; expected an identifier that is no term of prepkd, e.g. name = 'huber'"
        )
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise ValueError(f"names {name}, which lacks {', '.join(missing)}")
    return found


def is_user_term(term: type[Term]) -> bool:
    """Whether a term is a user's own."""
    return term is not FixedTemperature and term.name not in TERMS

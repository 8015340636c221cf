"""The one exception for input that a person can mend."""


class InputError(ValueError):
    """Bad input: says in one line what was expected, what was found, where, and how to mend it (exit code 2)."""

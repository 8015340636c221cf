"""Sections of the page: each reads what it needs of a project's results, or raises InputError that says what would make it."""

"""Sections of the page: each reads its part of a project's results, or raises InputError naming the command that makes them."""

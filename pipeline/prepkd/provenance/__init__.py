"""Checks that files belong together: a file's recorded inputs against the expected ones."""

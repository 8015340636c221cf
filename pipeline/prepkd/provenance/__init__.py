"""Checks that files belong together: what a file was made from, compared with what is asked for."""

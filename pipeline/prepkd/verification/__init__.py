"""Verification of a store against its teacher, and of files against their provenance."""

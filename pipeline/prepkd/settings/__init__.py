"""Validating settings: sections, overrides, messages."""

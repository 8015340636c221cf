"""Validation of settings: sections, overrides, messages."""

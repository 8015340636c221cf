"""Checks of the machine and the project before work starts, each with its remedy."""

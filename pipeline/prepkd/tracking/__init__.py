"""Loggers: experiment trackers that a run reports to besides its results."""

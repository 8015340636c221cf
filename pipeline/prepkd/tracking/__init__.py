"""Loggers: experiment trackers to which a run reports, in addition to its result files."""

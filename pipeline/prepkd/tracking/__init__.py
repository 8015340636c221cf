"""Where runs report to besides the results: loggers."""

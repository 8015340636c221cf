"""Benchmarks that print the speed and size claims: `python -m benchmarks.store`, `python -m benchmarks.encodings`."""

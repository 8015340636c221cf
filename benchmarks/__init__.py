"""Benchmarks behind the speed and size claims, such as `python -m benchmarks.store` and `python -m benchmarks.encodings`."""

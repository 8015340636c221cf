"""The cost of caching and training before they are run: bytes, files, teacher hours, memory, reading rate, break-even."""

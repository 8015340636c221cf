"""The prepared HDF5 file: writing and reading it."""

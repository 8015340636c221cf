"""Data: image files, sources of raw files, the prepared HDF5 file, and samples on the training device."""
